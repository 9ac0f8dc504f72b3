"""Asks a shard as a gateway does."""

from __future__ import annotations

from typing import Any

from gateway.line import Line
from trireme.shard.v1 import shard_pb2_grpc

SECONDS = 20.0


async def ask(stub: shard_pb2_grpc.ShardServiceAsyncStub, what: str, request: Any) -> Any:
    """The answer to one request in a conversation of its own; `what` is a method of Line."""
    line = Line(stub)
    try:
        return await getattr(line, what)(request, SECONDS)
    finally:
        await line.close()
