"""Asks every shard at once. What did not answer is part of the result, never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.rpc import reason_of
from gateway.fusion import Candidate, Fused
from gateway.query import Degradation, Fetched
from gateway.topology import Target, View
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

Reply = TypeVar("Reply")
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Gathered(Generic[Reply]):
    """Replies by shard, and how the others failed."""

    replies: Mapping[int, Reply]
    missing: Sequence[Degradation] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of one query over all shards."""

    rankings: Sequence[Sequence[Candidate]] = ()
    missing: Sequence[Degradation] = ()
    answered: Mapping[int, shard_pb2.GenerationUsed] = field(default_factory=dict)
    slowest_microseconds: int = 0

    def __repr__(self) -> str:
        return f"<Leg {len(self.answered)} answered, {len(self.missing)} missing>"


async def ask_lexical(view: View, text: str, limit: int, deadline: Deadline) -> Leg:
    """The lexical leg: the best `limit` documents of every shard."""

    def ask(target: Target) -> shard_pb2.SearchLexicalRequest:
        return shard_pb2.SearchLexicalRequest(
            collection=view.collection, generation=target.generation, query=text, limit=limit
        )

    gathered = await _gather(
        view.targets, "lexical", lambda t, s: s.SearchLexical(ask(t), timeout=deadline.remaining())
    )
    return _leg(gathered)


async def ask_dense(view: View, vector: Vector, limit: int, deadline: Deadline) -> Leg:
    """The dense leg: the best `limit` documents of every shard. `vector` is float32 [dimension]."""
    packed = vector.astype("<f4", copy=False).tobytes()

    def ask(target: Target) -> shard_pb2.SearchDenseRequest:
        return shard_pb2.SearchDenseRequest(
            collection=view.collection,
            generation=target.generation,
            vector=packed,
            limit=limit,
            encoder_fingerprint=view.encoder.fingerprint,
        )

    gathered = await _gather(
        view.targets, "dense", lambda t, s: s.SearchDense(ask(t), timeout=deadline.remaining())
    )
    return _leg(gathered)


async def fetch(
    view: View,
    ranked: Sequence[Fused],
    tokens_for: int,
    vector: Vector | None,
    deadline: Deadline,
) -> tuple[dict[str, Fetched], Sequence[Degradation]]:
    """Documents and best passages of `ranked`; the first `tokens_for` come with token ids."""
    packed = b"" if vector is None else vector.astype("<f4", copy=False).tobytes()
    wanted: dict[int, list[str]] = {}
    with_tokens: dict[int, int] = {}
    for place, fused in enumerate(ranked):
        wanted.setdefault(fused.shard, []).append(fused.id)
        with_tokens[fused.shard] = with_tokens.get(fused.shard, 0) + (place < tokens_for)

    def ask(target: Target) -> shard_pb2.FetchRequest:
        return shard_pb2.FetchRequest(
            collection=view.collection,
            generation=target.generation,
            ids=wanted[target.shard],
            vector=packed,
            tokens_for=with_tokens[target.shard],
        )

    targets = [target for target in view.targets if target.shard in wanted]
    gathered = await _gather(
        targets, "fetch", lambda t, s: s.Fetch(ask(t), timeout=deadline.remaining())
    )
    fetched = {
        found.id: Fetched(found.document, found.start_byte, found.end_byte, found.token_ids)
        for reply in gathered.replies.values()
        for found in reply.documents
    }
    return fetched, gathered.missing


async def _gather(
    targets: Sequence[Target],
    stage: str,
    call: Callable[[Target, shard_pb2_grpc.ShardServiceAsyncStub], Awaitable[Reply]],
) -> Gathered[Reply]:
    async def ask(target: Target) -> Reply | Degradation:
        if target.stub is None:
            return _missing(stage, target, "SHARD_UNAVAILABLE", "is not connected")
        try:
            return await call(target, target.stub)
        except grpc.aio.AioRpcError as error:
            return _missing(stage, target, _reason(error), error.details() or "no details")

    replies = await asyncio.gather(*(ask(target) for target in targets))
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


def _leg(
    gathered: Gathered[shard_pb2.SearchLexicalResponse] | Gathered[shard_pb2.SearchDenseResponse],
) -> Leg:
    replies = gathered.replies
    return Leg(
        rankings=[
            [Candidate(c.id, c.score, shard) for c in reply.candidates]
            for shard, reply in replies.items()
        ],
        missing=gathered.missing,
        answered={shard: reply.generation for shard, reply in replies.items()},
        slowest_microseconds=max((r.search_microseconds for r in replies.values()), default=0),
    )
