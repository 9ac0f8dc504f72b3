"""Every call but those for health needs credentials that hold the scope of its method.

Credentials are checked and a request is paid for before the request is read. A stream's messages
are checked one by one, with the credentials as they are by then: what is refused ends the stream,
once the messages before it are answered. Calls beyond a quota are refused, streams wait.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from core.decoding import Undecodable, decode
from core.errors import PermissionDenied, QuotaExceeded, TriremeError
from core.interceptors import Continuation, rewrapped
from core.security.caller import Caller, set_caller
from core.security.identity import Identity
from gateway.listing_wire import visible_page
from gateway.rights_wire import RULES, request_type

HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection."
# A stream's sender is held back for so long; beyond, it is told.
LONGEST_WAIT_SECONDS = 60.0
# A refused stream's first message is waited for so long, unless there is none.
FIRST_MESSAGE_SECONDS = 0.1

Context = Any


class Authentication(grpc.aio.ServerInterceptor):
    """Inside `Boundary`, around everything that does work."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(HEALTH):
            return handler
        guard = _Guard(self._identity, method, handler.request_deserializer)

        def wrap(behaviour: Any) -> Any:
            if inspect.isasyncgenfunction(behaviour) or handler.response_streaming:
                return guard.stream(behaviour)
            return guard.unary(behaviour)

        return rewrapped(handler, wrap, _unread)


class _Guard:
    """What stands before one method."""

    def __init__(self, identity: Identity, method: str, parse: Any) -> None:
        self._identity = identity
        self._method = method
        self._parse = parse
        self._rule = RULES.get(method)

    def unary(self, behaviour: Any) -> Any:
        async def call(data: bytes, context: Context) -> Any:
            caller = await self.admit(context)
            caller.meter.request()
            request = self.read(data, caller)
            rule = self._rule
            if rule is None or not rule.listing or caller.may_everywhere(rule.scope):
                return await behaviour(request, context)

            async def ask(page: bytes) -> bytes:
                reply: bytes = await behaviour(page, context)
                return reply

            return await visible_page(self._method, rule, caller, data, ask)

        return call

    def stream(self, behaviour: Any) -> Any:
        async def call(incoming: Any, context: Context) -> AsyncIterator[Any]:
            try:
                await self.admit(context)
            except TriremeError:
                await _wait_for_first(incoming)
                raise
            requests = _Requests(self, incoming, context)
            # Nothing is begun for a stream whose first message is refused.
            await requests.read_first()
            async for response in behaviour(requests, context):
                yield response
            if requests.refusal is not None:
                raise requests.refusal

        return call

    async def admit(self, context: Context) -> Caller:
        """The caller, if there is any request of this method that it may make."""
        caller = await self._identity.authenticate(dict(context.invocation_metadata()))
        set_caller(caller)
        if self._rule is not None:
            self._rule.check_at_all(caller)
        elif not self._method.startswith(REFLECTION):
            raise PermissionDenied(
                f"{self._method} is open to nobody", remedy="call another method"
            )
        return caller

    def read(self, data: bytes, caller: Caller) -> Any:
        """The request as its handler wants it, if the caller may make it."""
        request = data if self._parse is None else self._parse(data)
        rule = self._rule
        if rule is None or isinstance(request, Undecodable):
            return request
        if rule.names and not caller.may_everywhere(rule.scope):
            readable = decode(request_type(self._method), data) if request is data else request
            rule.check(caller, readable)
        if rule.items:
            caller.meter.further_requests(len(getattr(request, rule.items)) - 1)
        return request


class _Requests(AsyncIterator[Any]):
    """A stream's messages until one is refused; `refusal` says why it was."""

    def __init__(self, guard: _Guard, incoming: AsyncIterator[bytes], context: Context) -> None:
        self._guard = guard
        self._incoming = incoming
        self._context = context
        self._first: list[Any] = []
        self.refusal: TriremeError | None = None

    async def read_first(self) -> None:
        """Keeps the first message for the handler; raises why it is refused."""
        with suppress(StopAsyncIteration):
            self._first.append(await anext(self))
        if self.refusal is not None:
            raise self.refusal

    async def __anext__(self) -> Any:
        if self._first:
            return self._first.pop()
        if self.refusal is not None:
            raise StopAsyncIteration
        data = await anext(self._incoming)
        try:
            caller = await self._guard.admit(self._context)
            await _turn(caller)
            return self._guard.read(data, caller)
        except TriremeError as error:
            self.refusal = error
            raise StopAsyncIteration from error


async def _wait_for_first(incoming: AsyncIterator[bytes]) -> None:
    """To a client of grpc.aio that still sends it, a stream that ends is INTERNAL, not refused."""
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            await anext(incoming)


async def _turn(caller: Caller) -> None:
    """Returns once the caller has paid for a message; raises QuotaExceeded if that takes long."""
    while True:
        try:
            caller.meter.request()
            return
        except QuotaExceeded as error:
            if error.retry_after_seconds > LONGEST_WAIT_SECONDS:
                raise
            await asyncio.sleep(error.retry_after_seconds)


def _unread(data: bytes) -> bytes:
    return data
