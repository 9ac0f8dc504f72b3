"""A shard measures the recall of its sealed segments on the queries that come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.vectors.choosing import Plan
from core.vectors.kinds import IVF_SQ8, KINDS
from core.vectors.stored import F16
from shard.metrics import ShardMetrics
from shard.recall_watch import RecallWatch
from shard.searcher import Searcher
from shard.snapshot import Snapshot
from tests.fakes.publisher import Publisher, embed

QUERY = embed("made of logs")


@pytest.fixture
def searcher() -> Iterator[Searcher]:
    searcher = Searcher(threads=1, queued=1, inline_rows=0)
    yield searcher
    searcher.stop()


def snapshot_of(root: Path, *, is_sealed: bool) -> Snapshot:
    """Twenty documents, one of them dead."""
    publisher = Publisher(root / "index")
    if is_sealed:
        publisher.plan = Plan(KINDS[IVF_SQ8], F16, 0.98)
    for number in range(20):
        publisher.put(f"ship-{number}", f"made of {number} logs")
    publisher.publish()
    publisher.delete("ship-3")
    return Snapshot.open(publisher.store, publisher.publish(), root / "view", None)


def count(metrics: ShardMetrics, what: str = "count") -> float | None:
    name = f"trireme_shard_vector_recall_ratio_{what}"
    return metrics.registry.get_sample_value(name, {"collection": "ships"})


async def test_every_so_many_searches_one_is_measured(tmp_path: Path, searcher: Searcher) -> None:
    metrics = ShardMetrics()
    watch = RecallWatch(searcher, metrics, one_in=3)
    snapshot = snapshot_of(tmp_path, is_sealed=True)
    counted = []

    for _ in range(7):
        watch.sample(snapshot, QUERY)
        await watch.until_measured()
        counted.append(count(metrics))

    assert counted == [None, None, 1, 1, 1, 2, 2]
    # So few passages are searched exactly: 10 of 10 are found each time.
    assert count(metrics, "sum") == 2
    assert snapshot.measure_recall(QUERY) == (10, 10)


@pytest.mark.parametrize(("is_sealed", "one_in"), [(False, 1), (True, 0)])
async def test_exact_segments_are_not_measured_and_nothing_if_none_is_wanted(
    tmp_path: Path, searcher: Searcher, is_sealed: bool, one_in: int
) -> None:
    metrics = ShardMetrics()
    watch = RecallWatch(searcher, metrics, one_in)

    watch.sample(snapshot_of(tmp_path, is_sealed=is_sealed), QUERY)
    await watch.until_measured()

    assert count(metrics) is None


async def test_searches_go_first(tmp_path: Path) -> None:
    metrics = ShardMetrics()
    searcher = Searcher(threads=1, queued=-1, inline_rows=0)
    watch = RecallWatch(searcher, metrics, one_in=1)

    watch.sample(snapshot_of(tmp_path, is_sealed=True), QUERY)
    await watch.until_measured()

    assert count(metrics) is None
    skipped = metrics.registry.get_sample_value("trireme_shard_vector_recall_skipped_total")
    assert skipped == 1
    searcher.stop()
