"""Who is waited for when shards fall silent under a call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.rpc import lost
from gateway.circuit import UNANSWERED_CALLS
from gateway.gathering import gather
from gateway.line import Line
from gateway.metrics import GatewayMetrics
from gateway.peer import Peer
from gateway.replicas import Holder, Replicas
from gateway.view import Target
from trireme.shard.v1 import shard_pb2

KIND = "lexical"


class Shards:
    """Two shards; the calls to those in `stops` are given up once, as they fall silent."""

    def __init__(self) -> None:
        metrics = GatewayMetrics()
        self.peers = [
            Peer(f"127.0.0.1:{port}", lambda: None, metrics.silent_peers, 0.95) for port in (1, 2)
        ]
        replicas = Replicas(0.0, metrics)
        self.targets = [
            Target(number, replicas, [Holder(peer, (1, 1))], 1, 1, 1)
            for number, peer in enumerate(self.peers)
        ]
        self.stops: set[int] = set()
        self.asked: list[int] = []

    async def ask(self, target: Target, line: Line) -> shard_pb2.SearchLexicalResponse:
        self.asked.append(target.shard)
        if target.shard in self.stops:
            self.stops.discard(target.shard)
            for _ in range(UNANSWERED_CALLS):
                target.holders[0].peer.pulse.overtaken()
            raise lost("has not answered for 0.4 s")
        return shard_pb2.SearchLexicalResponse()


@pytest.fixture
async def shards() -> AsyncIterator[Shards]:
    made = Shards()
    yield made
    for peer in made.peers:
        await peer.close()


async def test_who_falls_silent_under_a_call_is_missing(shards: Shards) -> None:
    shards.stops = {0}

    found = await gather(shards.targets, KIND, shards.ask)

    assert list(found.replies) == [1]
    (missing,) = found.missing
    assert (missing.reason, missing.shards) == ("SHARD_UNAVAILABLE", (0,))
    assert missing.message == "shard 0 has not answered for 0.4 s"
    assert sorted(shards.asked) == [0, 1]


async def test_the_only_one_is_waited_for_all_the_same(shards: Shards) -> None:
    shards.stops = {0}

    found = await gather(shards.targets[:1], KIND, shards.ask)

    assert list(found.replies) == [0]
    assert shards.asked == [0, 0]


async def test_a_shard_that_is_lost_is_not_asked_again(shards: Shards) -> None:
    async def lose(target: Target, line: Line) -> shard_pb2.SearchLexicalResponse:
        shards.asked.append(target.shard)
        raise lost("gone")

    found = await gather(shards.targets, KIND, lose)

    assert [each.reason for each in found.missing] == ["SHARD_UNAVAILABLE"] * 2
    assert sorted(shards.asked) == [0, 1]
