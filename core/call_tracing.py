"""The interceptor that begins a trace, or goes on with its caller's, for every call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from core.interceptors import rewrapped
from core.tracing import arrival


class Tracing(grpc.aio.ServerInterceptor):
    """Begins or goes on with a trace for every call; stands right inside `Boundary`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        return rewrapped(handler, lambda behaviour: _traced(behaviour, method.lstrip("/")))


def _traced(behaviour: Any, name: str) -> Any:
    if inspect.isasyncgenfunction(behaviour):
        return _traced_stream(behaviour, name)

    async def call(request: Any, context: Any) -> Any:
        with arrival(name, context.invocation_metadata()):
            return await behaviour(request, context)

    return call


def _traced_stream(behaviour: Any, name: str) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        with arrival(name, context.invocation_metadata(), recorded=False):
            async for response in behaviour(request, context):
                yield response

    return call
