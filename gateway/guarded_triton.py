"""A Triton client that does not wait for a model that has fallen silent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from core.deadline import Deadline
from core.errors import OutOfTime, TriremeError, TritonUnavailable
from core.metrics import InferenceMetrics
from core.security.tls import NO_TLS, TlsSettings
from core.triton import BULK_REQUESTS, QUERY_PRIORITY, ModelInfo, NeverSent, TritonClient
from gateway.pulse import Pulse


class GuardedTriton(TritonClient):
    """As TritonClient, but TritonUnavailable is raised at once while a model is silent.

    Each model counts for itself: one that hangs takes no other with it. It is probed with one
    token, because a Triton whose model hangs still says that it is ready.
    """

    _silent: Gauge
    _pulses: dict[str, Pulse]
    _inputs: dict[str, tuple[str, int]]

    @classmethod
    def guard(
        cls,
        address: str,
        silent: Gauge,
        metrics: InferenceMetrics,
        tls: TlsSettings = NO_TLS,
        *,
        bulk_requests: int = BULK_REQUESTS,
    ) -> Self:
        """A client for `host:port`; call it inside a running event loop."""
        client = cls.create(address, bulk_requests=bulk_requests, metrics=metrics, tls=tls)
        client._silent, client._pulses, client._inputs = silent, {}, {}
        return client

    async def stop(self, grace_seconds: float) -> None:
        """Ends the probes, then as TritonClient.stop."""
        for pulse in self._pulses.values():
            await pulse.stop()
        await super().stop(grace_seconds)

    async def model_info(self, name: str, version: str, deadline: Deadline) -> ModelInfo:
        """As TritonClient.model_info."""
        pulse = self._check(name)
        started = time.perf_counter()
        try:
            return await super().model_info(name, version, deadline)
        except OutOfTime:
            pulse.unanswered(time.perf_counter() - started)
            raise

    async def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[NDArray[np.int64]],
        deadline: Deadline,
        *,
        priority: int,
    ) -> NDArray[np.float32]:
        """As TritonClient.infer."""
        pulse = self._check(model)
        self._inputs[model] = (version, len(inputs))
        started = time.perf_counter()
        try:
            output = await super().infer(model, version, inputs, deadline, priority=priority)
        except NeverSent:
            raise
        except OutOfTime:
            pulse.unanswered(time.perf_counter() - started)
            raise
        pulse.answered()
        return output

    def _check(self, model: str) -> Pulse:
        pulse = self._pulses.get(model)
        if pulse is None:
            pulse = Pulse(model, partial(self._probe, model), self._silent)
            self._pulses[model] = pulse
        if pulse.silent:
            raise TritonUnavailable(
                f"model {model} in Triton has not answered for {pulse.silent_seconds:.1f} s",
                remedy="try again shortly",
            )
        return pulse

    async def _probe(self, model: str, seconds: float) -> bool:
        version, count = self._inputs.get(model, ("", 0))
        deadline = Deadline.after(seconds)
        try:
            if not count:
                await super().model_info(model, "", deadline)
                return True
            token = np.ones((1, 1), dtype=np.int64)
            await super().infer(model, version, [token] * count, deadline, priority=QUERY_PRIORITY)
        except (OutOfTime, TritonUnavailable):
            return False
        except TriremeError:
            return True  # a refusal is an answer
        return True
