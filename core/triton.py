"""Asks Triton over gRPC (KServe v2): models' properties and inference.

Uses tritonclient's generated stubs on a channel of our own. Its client class is as fast, but turns
status codes into text and cannot be told a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from core import tracing
from core.deadline import Deadline
from core.errors import (
    BadEnvironment,
    BadModelOutput,
    NotFound,
    OutOfTime,
    TriremeError,
    TritonUnavailable,
)
from core.metrics import InferenceMetrics
from core.model_info import ModelInfo, model_info
from core.rpc import CHANNEL_OPTIONS, open_channel
from core.security.tls import NO_TLS, TlsSettings

__all__ = ["ModelInfo", "TritonClient"]

# Triton as others start it answers pings without a call with GOAWAY.
_CHANNEL_OPTIONS = [
    *(option for option in CHANNEL_OPTIONS if option[0] != "grpc.keepalive_permit_without_calls"),
    ("grpc.keepalive_permit_without_calls", 0),
]
# Triton's queue has no priorities (docs/decisions/0037): what comes in bulk waits here, so that few
# of it stand before a query. One request more than a model has instances, so that none idles.
QUERY_PRIORITY = 1
BULK_PRIORITY = 2
BULK_REQUESTS = 3
_OUTPUT = "OUTPUT__0"
_DETAIL_CHARACTERS = 300
_NOBODY_THERE = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class NeverSent(OutOfTime):
    """The deadline passed before Triton was asked: other requests of this process were there."""


class TritonClient:
    """One Triton server, or several behind one name.

    Bounds the inferences in flight: those of queries, and those in bulk for each model.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        max_in_flight: int,
        bulk_requests: int,
        metrics: InferenceMetrics | None = None,
    ) -> None:
        self.address = address
        self._channel = channel
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._permits = asyncio.Semaphore(max_in_flight)
        self._bulk_permits: dict[str, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, bulk_requests)
        )
        self._metrics = metrics

    @classmethod
    def create(
        cls,
        address: str,
        *,
        max_in_flight: int = 32,
        bulk_requests: int = BULK_REQUESTS,
        metrics: InferenceMetrics | None = None,
        tls: TlsSettings = NO_TLS,
    ) -> Self:
        """A client for `host:port`; call it inside a running event loop.

        Raises BadEnvironment if `bulk_requests` would let nothing through.
        """
        if bulk_requests < 1:
            raise BadEnvironment(
                f"{bulk_requests} let nothing through",
                field="triton_bulk_requests",
                remedy="give 1 at least",
            )
        channel = open_channel(address, tls, _CHANNEL_OPTIONS)
        return cls(address, channel, max_in_flight, bulk_requests, metrics)

    async def start(self) -> None:
        """Begins to connect; whether Triton is there shows with the first call."""
        self._channel.get_state(try_to_connect=True)

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight end for up to `grace_seconds`, then closes the connection."""
        await self._channel.close(grace_seconds)

    async def is_live(self, seconds: float) -> bool:
        """Whether Triton says anything within so many seconds, however busy its models are."""
        try:
            await self._stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _NOBODY_THERE
        return True

    async def model_info(self, name: str, version: str, deadline: Deadline) -> ModelInfo:
        """The properties of a model; version "" means the newest that is served.

        Raises NotFound (MODEL_NOT_FOUND), ModelMismatch if the model was not exported by us,
        TritonUnavailable or OutOfTime.
        """
        if version and not version.isdecimal():
            raise not_served(self.address, f"{name}:{version}")
        deadline.check(f"asking Triton for model {name!r}")
        request = service_pb2.ModelMetadataRequest(name=name, version=version)
        metadata = await self._ask(self._stub.ModelMetadata, request, name, version, deadline)
        version = version or max(metadata.versions, key=int, default="")
        request = service_pb2.ModelConfigRequest(name=name, version=version)
        response = await self._ask(self._stub.ModelConfig, request, name, version, deadline)
        return model_info(response.config, version)

    async def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[NDArray[np.int64]],
        deadline: Deadline,
        *,
        priority: int,
    ) -> NDArray[np.float32]:
        """Runs a model over `inputs` (int64, equal shapes [n, ...]); returns its output [n, ...].

        Of BULK_PRIORITY no more than `bulk_requests` of a model are with Triton at a time. Raises
        OutOfTime if no answer comes before the deadline (NeverSent if Triton was not even asked),
        TritonUnavailable if Triton is away or refuses load, NotFound (MODEL_NOT_FOUND), and
        BadModelOutput if the model fails on the inputs or gives a wrong shape or infinite numbers.
        """
        deadline.check(f"asking Triton to run model {model!r}")
        permits = self._bulk_permits[model] if priority == BULK_PRIORITY else self._permits
        await _acquire(permits, deadline)
        rows, began = inputs[0].shape[0], time.perf_counter()
        try:
            with tracing.span("triton", model=model, rows=rows):
                request = _infer_request(model, version, inputs)
                response = await self._infer_once_more_if_restarted(request, deadline)
                output = _output(response, rows=rows)
        except TriremeError as error:
            if self._metrics is not None:
                self._metrics.failures(model, error.reason).inc()
            raise
        finally:
            permits.release()
        if self._metrics is not None:
            self._metrics.answered(model, rows, time.perf_counter() - began)
        return output

    async def _infer_once_more_if_restarted(self, request: Any, deadline: Deadline) -> Any:
        """Asks twice if a model's process has died: some Tritons restart it when asked."""
        for attempt in (1, 2):
            try:
                return await self._ask(
                    self._stub.ModelInfer,
                    request,
                    request.model_name,
                    request.model_version,
                    deadline,
                )
            except TritonUnavailable as error:
                if attempt == 2 or "not healthy" not in error.message:
                    raise
        raise AssertionError("unreachable")

    async def _ask(
        self, method: Any, request: Any, model: str, version: str, deadline: Deadline
    ) -> Any:
        # At the deadline gRPC cancels the call, and Triton drops it if it still waits in a queue.
        try:
            return await method(request, timeout=deadline.remaining(), metadata=tracing.recorded())
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, f"{model}:{version or 'newest'}", deadline) from error
        except grpc.aio.UsageError as error:
            raise TritonUnavailable("the connection to Triton is closed") from error

    def _translated(
        self, error: grpc.aio.AioRpcError, model: str, deadline: Deadline
    ) -> TriremeError:
        """Triton's failure as ours."""
        detail = (error.details() or "")[:_DETAIL_CHARACTERS]
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return OutOfTime(f"Triton did not answer for {model} in time", remedy="allow more time")
        if "not healthy" in detail:
            return TritonUnavailable(f"model {model} is not healthy: {detail}")
        if code is grpc.StatusCode.NOT_FOUND or "not at ready state" in detail:
            return not_served(self.address, model)
        if code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
        ):
            return BadModelOutput(f"model {model} failed: {detail}")
        return TritonUnavailable(f"Triton at {self.address} is unavailable: {detail}")

    def __repr__(self) -> str:
        return f"<TritonClient {self.address}>"


def not_served(address: str, model: str) -> NotFound:
    """The error that says that the Triton there does not serve a model."""
    return NotFound(
        "MODEL_NOT_FOUND",
        f"Triton at {address} does not serve {model}",
        remedy="see `trireme models list`",
    )


async def _acquire(permits: asyncio.Semaphore, deadline: Deadline) -> None:
    if not permits.locked():
        await permits.acquire()
        return
    try:
        async with asyncio.timeout(deadline.remaining()):
            await permits.acquire()
    except TimeoutError as error:
        raise NeverSent(
            "the deadline passed while other inferences were in flight",
            remedy="try again, or allow more time",
        ) from error


def _infer_request(model: str, version: str, inputs: Sequence[NDArray[np.int64]]) -> Any:
    request = service_pb2.ModelInferRequest(
        model_name=model, model_version=version, id=tracing.request_id()
    )
    for number, array in enumerate(inputs):
        request.inputs.add(name=f"INPUT__{number}", datatype="INT64", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    request.outputs.add(name=_OUTPUT)
    return request


def _output(response: Any, *, rows: int) -> NDArray[np.float32]:
    """The one output as float32 [rows, ...]; raises BadModelOutput."""
    model = f"{response.model_name}:{response.model_version}"
    if len(response.outputs) != 1 or len(response.raw_output_contents) != 1:
        raise BadModelOutput(f"model {model} returned {len(response.outputs)} outputs, not one")
    output, content = response.outputs[0], response.raw_output_contents[0]
    shape = tuple(output.shape)
    if output.datatype != "FP32" or not shape or shape[0] != rows:
        raise BadModelOutput(
            f"model {model} returned {output.datatype} {list(shape)} for {rows} rows"
        )
    try:
        values = np.frombuffer(content, dtype=np.float32).reshape(shape)
    except ValueError as error:
        raise BadModelOutput(
            f"model {model} returned {len(content)} bytes for shape {list(shape)}"
        ) from error
    if not np.isfinite(values).all():
        raise BadModelOutput(f"model {model} returned non-finite numbers")
    return values
