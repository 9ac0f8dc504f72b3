"""What every call of every role goes through: errors become statuses, calls are counted."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from core import tracing
from core.errors import TriremeError
from core.metrics import CallMetrics
from core.rpc import status_of

log = logging.getLogger(__name__)

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Context = Any


class Boundary(grpc.aio.ServerInterceptor):
    """Turns our errors into statuses with details, hides foreign ones, counts every call.

    A foreign exception is a fault of ours: the caller gets INTERNAL and a request id, the log gets
    the rest under the same id.
    """

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics
        # A method's handler is always the same one: wrapped once, not with every call.
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        wrapped = rewrapped(handler, lambda behaviour: self._counted(behaviour, method))
        self._handlers[method] = wrapped
        return wrapped

    def _counted(self, behaviour: Any, method: str) -> Any:
        if inspect.isasyncgenfunction(behaviour):
            return self._counted_stream(behaviour, method)

        async def call(request: Any, context: Context) -> Any:
            async with _Counted(self._metrics, method, context):
                return await behaviour(request, context)

        return call

    def _counted_stream(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            async with _Counted(self._metrics, method, context):
                async for response in behaviour(request, context):
                    yield response

        return call


def rewrapped(handler: Any, wrap: Callable[[Any], Any], request_deserializer: Any = None) -> Any:
    """The handler with its behaviour wrapped and, if given, another deserializer.

    A behaviour is a coroutine function or, for most streams of responses, an async generator
    function; what `wrap` returns must be of the same kind.
    """
    name = "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )
    return getattr(grpc, f"{name}_rpc_method_handler")(
        wrap(getattr(handler, name)),
        request_deserializer=request_deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


class _Counted:
    """One call: counted on entry, timed and translated on exit."""

    def __init__(self, metrics: CallMetrics, method: str, context: Context) -> None:
        self._metrics = metrics
        self._method = method
        self._context = context
        self._begun = 0.0

    async def __aenter__(self) -> None:
        self._begun = self._metrics.begin()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        status = _status(error, self._method)
        code = status.code if status is not None else self._context.code() or grpc.StatusCode.OK
        self._metrics.end(self._method, self._begun, getattr(code, "name", str(code)))
        if status is not None:
            await self._context.abort_with_status(status)


def failure_status(error: Exception, method: str) -> grpc.Status:
    """What a caller is told of a failure; one that is not ours is logged under a request id."""
    if isinstance(error, TriremeError):
        return status_of(error)
    log.error("call failed unexpectedly", extra={"method": method}, exc_info=error)
    return status_of(
        TriremeError(
            "something failed on our side", remedy=f"report request id {tracing.request_id()}"
        )
    )


def _status(error: BaseException | None, method: str) -> Any:
    """The status to end the call with; None if it went well, was aborted or was cancelled."""
    if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
        return None
    return failure_status(error, method)
