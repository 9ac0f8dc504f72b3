"""One call to every shard at once, each to whichever of its replicas answers best."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

import grpc

from core.errors import ShardUnavailable
from core.rpc import reason_of
from gateway.line import Line
from gateway.query import Degradation
from gateway.replicas import Reply
from gateway.view import Target


@dataclass(frozen=True, slots=True)
class Gathered(Generic[Reply]):
    """Replies by shard, and how the others failed."""

    replies: Mapping[int, Reply]
    missing: Sequence[Degradation] = ()


async def gather(
    targets: Sequence[Target],
    stage: str,
    call: Callable[[Target, Line], Awaitable[Reply]],
) -> Gathered[Reply]:
    """Makes a call to every target, each to whichever of its replicas answers best."""

    def even_silent() -> bool:
        # Nobody waits for a shard that has fallen silent, unless there is nobody else to wait for.
        return all(target.is_silent for target in targets)

    async def reply(target: Target) -> Reply:
        ask = partial(target.ask, stage, lambda peer: call(target, peer.line))
        try:
            return await ask(even_silent=even_silent())
        except grpc.aio.AioRpcError as error:
            # It may have fallen silent, and the last to do so, while it was waited for.
            if reason_of(error) or not even_silent():
                raise
            return await ask(even_silent=True)

    async def outcome(target: Target) -> Reply | Degradation:
        try:
            return await reply(target)
        except ShardUnavailable as error:
            return _missing(stage, target, error.reason, error.message)
        except grpc.aio.AioRpcError as error:
            return _missing(stage, target, _reason(error), error.details() or "no details")
        except TimeoutError:
            return _missing(stage, target, "OUT_OF_TIME", "did not answer in time")

    replies = await asyncio.gather(*(outcome(target) for target in targets))
    answered = {
        target.shard: reply
        for target, reply in zip(targets, replies, strict=True)
        if not isinstance(reply, Degradation)
    }
    return Gathered(answered, [reply for reply in replies if isinstance(reply, Degradation)])


def _reason(error: grpc.aio.AioRpcError) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "OUT_OF_TIME"
    return reason_of(error) or "SHARD_UNAVAILABLE"


def _missing(stage: str, target: Target, reason: str, detail: str) -> Degradation:
    return Degradation(stage, reason, f"shard {target.shard} {detail}", (target.shard,))
