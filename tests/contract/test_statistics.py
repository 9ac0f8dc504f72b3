"""Statistics of words are added up over the shards that answer; the others are named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from core.deadline import Deadline
from gateway.metrics import GatewayMetrics
from gateway.statistics import added_up, gather_statistics
from gateway.topology import Topology
from shard.config import ShardConfig
from shard.server import Shard
from tests.fakes.publisher import Publisher
from trireme.shard.v1 import shard_pb2

SECONDS = 20.0
FIRST = shard_pb2.LexicalStatistics(
    document_count=2, total_length=3 + 2, terms=["log", "raft"], document_frequencies=[2, 1]
)
SECOND = shard_pb2.LexicalStatistics(
    document_count=1, total_length=4, terms=["log", "raft"], document_frequencies=[0, 1]
)


@dataclass
class Served:
    """Two shards of one collection and who knows them."""

    shards: list[Shard]
    topology: Topology

    def all_connected(self) -> bool:
        if not self.topology.serves("ships"):
            return False
        return all(target.order() for target in self.topology.view("ships").targets)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    texts = [{"a": "logs of rafts", "b": "logs log"}, {"c": "one raft without oars"}]
    for number, own in enumerate(texts):
        publisher = Publisher(tmp_path / "index", shard=number, shards=2)
        for id, text in own.items():
            publisher.put(id, text)
        publisher.publish()
    shards = []
    for number in range(2):
        shard = await Shard.create(ShardConfig(shard=number, index_directory=tmp_path / "index"))
        await shard.start()
        shards.append(shard)
    topology = Topology(
        [shard.address for shard in shards], GatewayMetrics(), hedge_quantile=0.95, hedge_share=0.05
    )
    await topology.start()
    served = Served(shards, topology)
    assert await topology.until(served.all_connected, SECONDS)
    yield served
    await topology.stop()
    for shard in shards:
        await shard.stop(0)


async def test_all_shards_are_added_up(served: Served) -> None:
    view = served.topology.view("ships")

    total, missing = await gather_statistics(view, "the rafts of logs", Deadline.after(SECONDS))

    assert missing == []
    assert total == shard_pb2.LexicalStatistics(
        document_count=2 + 1,
        total_length=5 + 4,
        terms=["log", "raft"],
        document_frequencies=[2 + 0, 1 + 1],
    )
    assert total == added_up([SECOND, FIRST])


async def test_a_shard_that_does_not_answer_is_named_and_the_others_are_used(
    served: Served,
) -> None:
    view = served.topology.view("ships")
    await served.shards[1].stop(0)

    total, missing = await gather_statistics(view, "the rafts of logs", Deadline.after(SECONDS))

    assert total == FIRST
    (label,) = missing
    assert (label.stage, label.reason, label.shards) == ("statistics", "SHARD_UNAVAILABLE", (1,))


async def test_without_any_answer_there_is_nothing_to_share(served: Served) -> None:
    view = served.topology.view("ships")
    for shard in served.shards:
        await shard.stop(0)

    total, missing = await gather_statistics(view, "logs", Deadline.after(SECONDS))

    assert total is None
    assert [label.shards for label in missing] == [(0,), (1,)]
