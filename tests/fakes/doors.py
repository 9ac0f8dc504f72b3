"""A gateway with HTTP doors in this process, and nothing but a Triton behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from core.config import build
from core.rpc import open_channel
from gateway.config import GatewayConfig
from gateway.server import Gateway


@dataclass(frozen=True)
class Reply:
    """What a door answered: its status line, its headers and its JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def reason(self) -> str:
        """The machine-readable reason in a google.rpc.Status."""
        return next((each["reason"] for each in self.body["error"]["details"]), "")


@dataclass(frozen=True)
class Doors:
    """A running gateway as HTTP clients see it; `channel` leads to the same one by gRPC."""

    url: str
    session: aiohttp.ClientSession
    channel: grpc.aio.Channel

    async def post(
        self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Reply:
        """One request, by default with `body` as JSON."""
        content = more or {"json": body}
        async with self.session.post(self.url + path, headers=headers, **content) as reply:
            return Reply(reply.status, reply.headers, await reply.json())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """One request."""
        async with self.session.get(self.url + path, headers=headers) as reply:
            return Reply(reply.status, reply.headers, await reply.json())


@asynccontextmanager
async def at(
    url: str, grpc_address: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[Doors]:
    """Clients of doors that are open already."""
    connector = aiohttp.TCPConnector(ssl=context or True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        open_channel(grpc_address) as channel,
    ):
        yield Doors(url, session, channel)


@asynccontextmanager
async def open_gateway(
    triton_address: str,
    model_directory: Path,
    context: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[Doors]:
    """The doors of a gateway that no shard is behind, for the time of a block."""
    values = {
        "address": "127.0.0.1:0",
        "http_address": "127.0.0.1:0",
        "shards": [],
        "indexer_address": "127.0.0.1:1",
        "triton_address": triton_address,
        "model_directory": str(model_directory),
    }
    gateway = await Gateway.create(build(GatewayConfig, values | settings, "test"))
    # It never is ready without a shard; what needs none is answered.
    starting = asyncio.create_task(gateway.start())
    try:
        while gateway.http_address.endswith(":0"):
            await asyncio.sleep(0)
        scheme = "https" if context else "http"
        async with at(f"{scheme}://{gateway.http_address}", gateway.address, context) as doors:
            yield doors
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await gateway.stop(0)
