"""Changes that come faster than they are indexed gather; nobody else waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.documents import Document
from core.errors import StorageFull
from indexer.batch import Batch, Place
from indexer.batches import Batches
from indexer.changes import first_chain
from indexer.lag import Lag
from indexer.ownership import Ownership
from indexer.pacing import LONGEST_PAUSE_SECONDS, Pace
from indexer.stall import Stall
from tests.fakes.write_path import WritePath

FULL = 3
SOON = 60.0


def test_nothing_waits_before_the_first_batch() -> None:
    assert Pace().seconds_left(now=0.0) == 0


def test_changes_gather_during_work_and_twice_as_long_after_it() -> None:
    pace = Pace()
    pace.begin(now=10.0)
    assert pace.seconds_left(now=10.1) == math.inf

    pace.end(now=10.2, waiting=True)
    assert pace.seconds_left(now=10.3) == pytest.approx(10.2 + 0.4 - 10.3)
    assert pace.seconds_left(now=10.6) == pytest.approx(0)
    assert pace.seconds_left(now=11.0) == 0


def test_nobody_waits_after_work_in_which_nothing_came() -> None:
    pace = Pace()
    pace.begin(now=10.0)
    pace.end(now=10.2, waiting=False)

    assert pace.seconds_left(now=10.2) == 0


def test_long_work_is_followed_by_a_short_pause() -> None:
    pace = Pace()
    pace.begin(now=10.0)
    pace.end(now=30.0, waiting=True)

    assert pace.seconds_left(now=30.0) == LONGEST_PAUSE_SECONDS


class Feed:
    """What a write path reads from, and the batches that it makes of it."""

    def __init__(self, path: WritePath, ownership: Ownership) -> None:
        self.lag = Lag()
        self.batches = Batches(path.record, 0, path.shared, _stall(path), self.lag)
        self._path = path
        self._ownership = ownership

    async def write(self, *ids: str) -> None:
        for id in ids:
            receipt = await self._path.upsert(Document(id=id, text="heart"))
            self.lag.accept(receipt.position.sequences[0])
            self.batches.wake()

    async def next(self, after: Place) -> Batch:
        return await self.batches.next(self._ownership, after)


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[Feed]:
    path = await WritePath.create(tmp_path, batch_documents=FULL)
    owner = await Ownership.take(path.shared.database, path.record, 0, owner="test", above_epoch=0)
    feed = Feed(path, owner)
    yield feed
    await path.close()


def _stall(path: WritePath) -> Stall:
    return Stall(path.shared.metrics.stalled, path.record.index_name, 0)


def _ids(batch: Batch) -> list[str]:
    return [document.change.id for document in batch.documents]


async def _first(feed: Feed) -> Batch:
    await feed.write("a")
    return await feed.next(Place(0, first_chain("0" * 31 + "1", 0)))


async def test_what_comes_while_a_batch_is_built_makes_one_batch(feed: Feed) -> None:
    batch = await _first(feed)
    with feed.batches.working(batch):
        ahead = asyncio.create_task(feed.next(batch.end))
        await feed.write("b")
        await feed.write("c")

    async with asyncio.timeout(SOON):
        assert _ids(await ahead) == ["b", "c"]


async def test_a_full_batch_is_made_while_another_is_built(feed: Feed) -> None:
    batch = await _first(feed)
    with feed.batches.working(batch):
        ahead = asyncio.create_task(feed.next(batch.end))
        await feed.write("b", "c", "d", "e")
        async with asyncio.timeout(SOON):
            assert len(_ids(await ahead)) == FULL


async def test_the_next_batch_is_made_although_building_failed(feed: Feed) -> None:
    batch = await _first(feed)
    with pytest.raises(StorageFull), feed.batches.working(batch):
        raise StorageFull("no space left")
    await feed.write("b")

    async with asyncio.timeout(SOON):
        assert _ids(await feed.next(batch.end)) == ["b"]
