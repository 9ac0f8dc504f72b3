"""Statistics of words are added up over the shards that answer, once; the others are named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
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

    publishers: list[Publisher]
    shards: list[Shard]
    topology: Topology

    def all_connected(self) -> bool:
        if not self.topology.serves("ships"):
            return False
        return all(target.order() for target in self.topology.view("ships").targets)

    def has_boats(self, generations: Sequence[tuple[int, int]]) -> bool:
        if self.topology.serves_nowhere("boats"):
            return False
        return self.topology.view("boats").generations == generations


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    texts = [{"a": "logs of rafts", "b": "logs log"}, {"c": "one raft without oars"}]
    publishers = []
    for number, own in enumerate(texts):
        publisher = Publisher(tmp_path / "index", shard=number, shards=2)
        for id, text in own.items():
            publisher.put(id, text)
        publisher.publish()
        publishers.append(publisher)
    shards = []
    for number in range(2):
        shard = await Shard.create(ShardConfig(shard=number, index_directory=tmp_path / "index"))
        await shard.start()
        shards.append(shard)
    topology = Topology(
        [shard.address for shard in shards], GatewayMetrics(), hedge_quantile=0.95, hedge_share=0.05
    )
    await topology.start()
    served = Served(publishers, shards, topology)
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


async def test_words_that_were_counted_are_not_asked_for_again(served: Served) -> None:
    view = served.topology.view("ships")
    before, _ = await gather_statistics(view, "the rafts of logs", Deadline.after(SECONDS))
    for shard in served.shards:
        await shard.stop(0)

    total, missing = await gather_statistics(view, "logs, rafts", Deadline.after(SECONDS))

    assert (total, missing) == (before, ())


async def test_counts_outlive_news_of_other_things(served: Served, tmp_path: Path) -> None:
    view = served.topology.view("ships")
    await gather_statistics(view, "rafts", Deadline.after(SECONDS))
    boats = Publisher(tmp_path / "index", "boats", uid="uid-2")
    for id in ("a", "b"):
        boats.put(id, "a boat")
        manifest = boats.publish()
        wanted = [(manifest.epoch, manifest.generation)]
        assert await served.topology.until(partial(served.has_boats, wanted), SECONDS)

    later = served.topology.view("ships")

    assert later is not view
    assert later.statistics is view.statistics


async def test_words_are_counted_again_in_a_new_generation(served: Served) -> None:
    view = served.topology.view("ships")
    before, _ = await gather_statistics(view, "rafts", Deadline.after(SECONDS))
    assert before is not None
    assert before.document_frequencies == [2]
    served.publishers[1].put("d", "a raft once more")
    served.publishers[1].publish()
    assert await served.topology.until(
        lambda: served.topology.view("ships").generations != view.generations, SECONDS
    )

    later = served.topology.view("ships")
    total, missing = await gather_statistics(later, "rafts", Deadline.after(SECONDS))

    assert missing == []
    assert total is not None
    assert total.document_frequencies == [3]


async def test_a_sum_that_lacks_a_shard_is_not_kept(served: Served) -> None:
    view = served.topology.view("ships")
    await served.shards[1].stop(0)
    for _ in range(2):
        total, missing = await gather_statistics(view, "the rafts of logs", Deadline.after(SECONDS))

        assert total == FIRST
        assert len(missing) == 1


async def test_a_sum_of_other_generations_is_not_kept(served: Served) -> None:
    view = served.topology.view("ships")
    gone = [replace(target, generation=target.generation + 7) for target in view.targets]

    total, missing = await gather_statistics(
        replace(view, targets=gone), "rafts", Deadline.after(SECONDS)
    )

    assert (total is not None, missing) == (True, [])
    assert view.statistics.known("rafts") is None


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
