"""Calls of the HTTP doors to the gRPC server of their own process.

They go over a socket in a directory that only this process's user may enter, through every
interceptor, so that nothing has to be checked, counted or measured in two ways.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from core.errors import InvalidInput
from core.rpc import CHANNEL_OPTIONS

# What a caller may say beside its request; the names are the same over gRPC.
FORWARDED = ("authorization", "traceparent", "tracestate", "trireme-priority")
TIMEOUT_HEADER = "trireme-timeout-ms"


class OwnServer:
    """This process as a peer: `address` is for the server to listen at, `call` asks it."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="trireme-gateway-"))
        self.address = f"unix:{self._directory / 'grpc.sock'}"
        self.channel = grpc.aio.insecure_channel(self.address, options=list(CHANNEL_OPTIONS))

    async def call(
        self, method: Any, message: Any, headers: Mapping[str, str], *, seconds: float | None = None
    ) -> Any:
        """The reply of a stub's `method`; raises grpc.aio.AioRpcError, and InvalidInput.

        The deadline is what the caller's headers say, else `seconds`, else the gateway's default.
        """
        asked = timeout_of(headers)
        metadata = [(name, headers[name]) for name in FORWARDED if name in headers]
        return await method(message, timeout=seconds if asked is None else asked, metadata=metadata)

    async def close(self) -> None:
        """Ends calls in flight and removes the socket."""
        await self.channel.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that the caller gives, None if it does not say; raises InvalidInput."""
    given = headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 9 and int(given)):
        raise InvalidInput(
            "MALFORMED",
            f"is {given!r}",
            field=TIMEOUT_HEADER,
            remedy="give whole milliseconds, 1 to 99999999, or leave it out",
        )
    return int(given) / 1000
