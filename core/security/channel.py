"""A channel that is opened anew when the certificates have changed, under the same stubs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc

from core.security.tls import Certificates, TlsSettings

# A call may be waiting for a connection of the old channel. Then nothing holds the channel but the
# streams on it, which go on until they end.
HANDOVER_SECONDS = 60.0

Options = Sequence[tuple[str, int | str]]


class RenewingChannel(grpc.aio.Channel):
    """Every call goes over a channel with the certificates that are there when it begins."""

    def __init__(self, address: str, tls: TlsSettings, options: Options) -> None:
        self._address = address
        self._certificates = tls.certificates
        self._options = list(options)
        self._old: deque[Any] = deque()
        self._open(self._certificates.value)

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method("stream_stream", arguments, named)

    async def close(self, grace: float | None = None) -> None:
        self._old.clear()
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._current().channel_ready()

    async def __aenter__(self) -> RenewingChannel:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close()

    def _method(self, kind: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        key = object()

        def call(*called: Any, **how: Any) -> Any:
            channel = self._current()
            bound = self._bound.get(key)
            if bound is None:
                bound = self._bound[key] = getattr(channel, kind)(*arguments, **named)
            return bound(*called, **how)

        return call

    def _current(self) -> grpc.aio.Channel:
        certificates = self._certificates.current()
        if certificates is not self._opened_with:
            self._old.append((self._channel, self._bound))
            asyncio.get_running_loop().call_later(HANDOVER_SECONDS, self._let_go)
            self._open(certificates)
        return self._channel

    def _let_go(self) -> None:
        if self._old:
            self._old.popleft()

    def _open(self, certificates: Certificates) -> None:
        self._opened_with = certificates
        self._channel = grpc.aio.secure_channel(
            self._address, certificates.for_channel(), options=self._options
        )
        self._bound: dict[object, Any] = {}

    def __repr__(self) -> str:
        return f"<RenewingChannel to {self._address}, {len(self._old)} older>"
