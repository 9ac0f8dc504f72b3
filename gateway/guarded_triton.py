"""A Triton client that does not wait for a model, or a Triton, that has fallen silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
    """As TritonClient, but TritonUnavailable is raised at once while a model is silent, or Triton.

    Each model counts for itself: one that hangs takes no other with it. It is probed with one
    token, because a Triton whose model hangs still says that it is ready. A Triton that does not
    even say that it is live takes all of them with it, and the calls that wait for it.
    """

    _silent: Gauge
    _server: Pulse
    _waiting: set[asyncio.Timeout]
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
        client._server, client._waiting = Pulse(address, client.is_live, silent), set()
        return client

    async def start(self) -> None:
        """As TritonClient.start; from now on a Triton that says nothing is noticed."""
        await super().start()
        self._server.listen(lambda: bool(self._waiting), self._give_up)

    async def stop(self, grace_seconds: float) -> None:
        """Ends the probes, then as TritonClient.stop."""
        for pulse in (self._server, *self._pulses.values()):
            await pulse.stop()
        await super().stop(grace_seconds)

    async def model_info(self, name: str, version: str, deadline: Deadline) -> ModelInfo:
        """As TritonClient.model_info."""
        pulse = self._check(name)
        started = time.perf_counter()
        try:
            async with self._waited_for():
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
            async with self._waited_for():
                output = await super().infer(model, version, inputs, deadline, priority=priority)
        except NeverSent:
            raise
        except OutOfTime:
            pulse.unanswered(time.perf_counter() - started)
            raise
        pulse.answered()
        return output

    @asynccontextmanager
    async def _waited_for(self) -> AsyncIterator[None]:
        """Around a call: ends it with TritonUnavailable once Triton is found dead."""
        try:
            async with asyncio.timeout(None) as waiting:
                self._waiting.add(waiting)
                try:
                    yield
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError as error:
            raise self._silence() from error
        self._server.answered()

    def _give_up(self) -> None:
        now = asyncio.get_running_loop().time()
        for waiting in self._waiting:
            waiting.reschedule(now)

    def _silence(self) -> TritonUnavailable:
        return TritonUnavailable(
            f"Triton at {self.address} has not answered for {self._server.silent_seconds:.1f} s",
            remedy="try again shortly",
        )

    def _check(self, model: str) -> Pulse:
        if self._server.silent:
            raise self._silence()
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
