"""The write paths of all shards of all collections, one task each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from core.deadline import Deadline
from core.documents import Position
from core.errors import OutOfTime
from core.filters.schema import Schema
from indexer.catalogue import CollectionRecord
from indexer.heads import Progress
from indexer.ingest import ShardIngest
from indexer.migration.pace import Pace, PacedEncoders, Precedence
from indexer.shared import Shared
from indexer.vector_state import VectorState


class Fleet:
    """`add` and `remove` collections, `wake` their shards, `stop`.

    `directory` holds working copies; it must lie in the file system of the index store.
    """

    def __init__(self, shared: Shared, directory: Path) -> None:
        self._shared = shared
        self._directory = directory
        self._shards: dict[tuple[str, int], ShardIngest] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._by_feed: dict[tuple[str, int], list[ShardIngest]] = {}
        self._precedence = Precedence()
        self._paces: dict[str, Pace] = {}

    def add(self, record: CollectionRecord) -> None:
        """Starts to fold the feed of a collection into one of its indexes."""
        pace = self._paces[record.index] = Pace(self._precedence)
        shared = replace(self._shared, encoders=PacedEncoders(self._shared.encoders, pace))
        for shard in range(record.shard_count):
            key = record.index, shard
            directory = self._directory / f"{record.index}-{shard}"
            self._shards[key] = ShardIngest(record, shard, shared, directory)
            self._by_feed.setdefault((record.uid, shard), []).append(self._shards[key])
            self._tasks[key] = asyncio.create_task(self._shards[key].run())
            self._tasks[key].add_done_callback(_retrieve)

    def go_by(self, record: CollectionRecord) -> None:
        """Says that the settings of a collection have changed."""
        for shard in range(record.shard_count):
            for ingest in self._by_feed.get((record.uid, shard), ()):
                ingest.rank_by(record.search_defaults)
                ingest.seal_by(record.vector_index)

    async def until_published(self, record: CollectionRecord, deadline: Deadline) -> None:
        """Returns once every shard of an index has a generation; raises OutOfTime."""
        waits = [self._shards[record.index, s].until(0) for s in range(record.shard_count)]
        try:
            async with asyncio.timeout(deadline.remaining()):
                await asyncio.gather(*waits)
        except TimeoutError as error:
            reasons = "; ".join(
                reason
                for s in range(record.shard_count)
                if (reason := self.stalled(record.index, s))
            )
            raise OutOfTime(
                f"its shards were not ready in time {reasons}".rstrip(), remedy="try again"
            ) from error

    async def until_covered(self, index: str, wanted: Mapping[int, int]) -> None:
        """Returns once each of these shards of an index publishes up to its change; 0 is any.

        Never if the index is not folded into.
        """
        for shard, sequence in wanted.items():
            if (ingest := self._shards.get((index, shard))) is None:
                await asyncio.Event().wait()
            else:
                await ingest.until(sequence)

    async def remove(self, index: str) -> None:
        """Stops to fold into an index."""
        keys = [key for key in self._shards if key[0] == index]
        for key in keys:
            self._shared.metrics.forget(self._shards[key].name)
        await self._end(keys)

    def ingest(self, index: str, shard: int) -> ShardIngest | None:
        """The write path of one shard of an index, None if it is not folded into."""
        return self._shards.get((index, shard))

    def pace(self, index: str) -> Pace:
        """How an index takes its turns; of no effect once it is removed."""
        return self._paces.get(index) or Pace(self._precedence)

    def covered(self, index: str) -> dict[int, int]:
        """Up to which change each shard of an index is published; -1 before that is known."""
        return {key[1]: each.covered for key, each in self._shards.items() if key[0] == index}

    def wake(self, uid: str, position: Position) -> None:
        """Says that the feeds of a collection's shards have grown to `position`."""
        for shard, head in position.sequences.items():
            for ingest in self._by_feed.get((uid, shard), ()):
                ingest.wake(head)

    def timed(self, progress: Progress) -> Progress:
        """How far a shard is, with what only its write path knows: its age and its speed."""
        ingest = self._shards.get((progress.uid, progress.shard))
        if ingest is None:
            return progress
        speed = ingest.lag.documents_per_second(time.monotonic())
        age = ingest.lag.seconds() if progress.covers < progress.head else 0.0
        return replace(progress, lag_seconds=age, documents_per_second=speed)

    def behind(self, uid: str) -> tuple[int, int]:
        """The shard of a collection that is most behind, and by how many changes.

        Where several indexes fold the same feed, the one that is least behind counts.
        """
        lags = {
            shard: min(ingest.lag.changes for ingest in folding)
            for (feed, shard), folding in self._by_feed.items()
            if feed == uid and folding
        }
        return max(lags.items(), key=lambda item: item[1], default=(0, 0))

    async def until_below(self, uid: str, changes: int) -> None:
        """Returns once no shard of a collection is so many changes behind."""
        while (behind := self.behind(uid))[1] >= changes:
            folding = self._by_feed[uid, behind[0]]
            waits = [asyncio.create_task(each.lag.until_below(changes)) for each in folding]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def schemas(self, index: str) -> list[Schema]:
        """What the documents of an index have for attributes, shard by shard, as published."""
        return [each.schema for key, each in self._shards.items() if key[0] == index]

    def vectors(self, index: str, shard: int) -> VectorState:
        """Which kinds of vector index a shard publishes."""
        ingest = self._shards.get((index, shard))
        return ingest.vectors if ingest is not None else VectorState()

    def stalled(self, index: str, shard: int) -> str:
        """Why a shard stands still; empty if it does not."""
        ingest = self._shards.get((index, shard))
        return ingest.stall.reason if ingest is not None else ""

    async def stop(self) -> None:
        """Stops all, in an orderly way: nothing half-built is published."""
        await self._end(list(self._shards))

    async def _end(self, keys: list[tuple[str, int]]) -> None:
        tasks = [self._tasks.pop(key) for key in keys]
        for key in keys:
            self._shards[key].chores.abandon()
        for key in keys:
            ended = self._shards.pop(key)
            self._paces.pop(key[0], None)
            for folding in self._by_feed.values():
                if ended in folding:
                    folding.remove(ended)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        halted = sum(bool(shard.stall.reason) for shard in self._shards.values())
        return f"<Fleet {len(self._shards)} shards, {halted} stalled>"


def _retrieve(task: asyncio.Task[None]) -> None:
    """Takes a task's failure, which the shard has logged."""
    if not task.cancelled():
        task.exception()
