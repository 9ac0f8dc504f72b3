"""A gRPC server for asyncio that takes many calls at a time.

grpc.aio takes one call of a method and, some turns of the event loop later, the next one. While
turns are long because much is under way, more calls come than are taken, and they wait before any
code of ours has seen them (docs/decisions/0039). Here several calls of each method are asked for at
any time, each by a task that then serves it. Nothing else differs.

That reaches into grpc.aio behind its public names. A release that looks different from what is
known here is used as it is.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

log = logging.getLogger(__name__)

Options = Sequence[tuple[str, int | str]]

CALLS_ASKED_FOR = 16
"""Of each method."""

# What is used of grpc.aio, with its parameters.
_KNOWN = (
    (cygrpc.AioServer, "_make_request_call_future", "self method_bytes"),
    (cygrpc.AioServer, "_request_registered_call", "self method"),
    (
        cygrpc,
        "_handle_rpc",
        "method_name method_resolver interceptors rpc_state loop concurrency_exceeded",
    ),
    (cygrpc, "_schedule_rpc_coro", "rpc_coro rpc_state loop method_name"),
)


def open_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Options
) -> grpc.aio.Server:
    """As grpc.aio.server; call it inside a running event loop."""
    if all(_looks_so(*known) for known in _KNOWN):
        try:
            return _EagerServer(interceptors, options)  # type: ignore[return-value]
        except TypeError:
            pass  # what it is made of cannot be asked for
    log.info("this grpc.aio is not known: calls of a method are taken one after another")
    return grpc.aio.server(interceptors=list(interceptors), options=list(options))


def _looks_so(owner: Any, name: str, parameters: str) -> bool:
    try:
        return list(inspect.signature(getattr(owner, name)).parameters) == parameters.split()
    except (AttributeError, TypeError, ValueError):
        return False  # it is not there, or does not tell its parameters


class _EagerServer(_server.Server):
    def __init__(
        self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Options
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = _EagerCore(self._loop, tuple(interceptors), tuple(options))


class _EagerCore(cygrpc.AioServer):  # type: ignore[misc]
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interceptors: tuple[grpc.aio.ServerInterceptor, ...],
        options: Options,
    ) -> None:
        super().__init__(loop, None, (), interceptors, options, None)
        self._running_loop = loop
        self._call_interceptors = interceptors
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._resolver = cygrpc._MethodResolver([], self._handlers)
        self._tasks: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(
        self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self._handlers.update(handlers)
        super().add_registered_method_handlers(handlers)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """What grpc.aio's own loop waits for: a call of a method that nobody has registered.

        Of the others it gets only faults, with which it ends the server.
        """
        if method is None:
            unregistered: asyncio.Future[Any] = super()._make_request_call_future(None)
            return unregistered
        fault = self._running_loop.create_future()
        for _ in range(CALLS_ASKED_FOR):
            self._ask_for(method, fault)
        return fault

    def _ask_for(self, method: bytes, fault: asyncio.Future[Any]) -> None:
        task = self._running_loop.create_task(self._take(method, fault))
        # The event loop itself holds its tasks only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, method: bytes, fault: asyncio.Future[Any]) -> None:
        """Waits for a call and serves it, while another task waits for the next one."""
        try:
            state = await self._request_registered_call(method)
        except cygrpc._RequestCallError:
            if self.is_running():
                self._ask_for(method, fault)
            return
        except Exception as error:
            if not fault.done():
                fault.set_exception(error)
            return
        self._ask_for(method, fault)
        name, loop = method.decode(), self._running_loop
        interceptors = self._call_interceptors
        call = cygrpc._handle_rpc(name, self._resolver, interceptors, state, loop, False)
        await cygrpc._schedule_rpc_coro(call, state, loop, name)
