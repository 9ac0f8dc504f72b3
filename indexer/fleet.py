"""The write paths of all shards of all collections, one task each."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.deadline import Deadline
from core.documents import Position
from core.errors import OutOfTime
from indexer.catalogue import CollectionRecord
from indexer.ingest import ShardIngest
from indexer.shared import Shared


class Fleet:
    """`add` and `remove` collections, `wake` their shards, `stop`.

    `directory` holds working copies; it must lie in the file system of the index store.
    """

    def __init__(self, shared: Shared, directory: Path) -> None:
        self._shared = shared
        self._directory = directory
        self._shards: dict[tuple[str, int], ShardIngest] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    def add(self, record: CollectionRecord) -> None:
        """Starts to index a collection."""
        for shard in range(record.shard_count):
            key = record.uid, shard
            directory = self._directory / f"{record.uid}-{shard}"
            self._shards[key] = ShardIngest(record, shard, self._shared, directory)
            self._tasks[key] = asyncio.create_task(self._shards[key].run())
            self._tasks[key].add_done_callback(_retrieve)

    def rank_by(self, record: CollectionRecord) -> None:
        """Says that the search defaults of a collection have changed."""
        for shard in range(record.shard_count):
            if (ingest := self._shards.get((record.uid, shard))) is not None:
                ingest.rank_by(record.search_defaults)

    async def until_published(self, record: CollectionRecord, deadline: Deadline) -> None:
        """Returns once every shard of a collection has a generation; raises OutOfTime."""
        waits = [self._shards[record.uid, s].until(0) for s in range(record.shard_count)]
        try:
            async with asyncio.timeout(deadline.remaining()):
                await asyncio.gather(*waits)
        except TimeoutError as error:
            reasons = "; ".join(
                reason for s in range(record.shard_count) if (reason := self.stalled(record.uid, s))
            )
            raise OutOfTime(
                f"its shards were not ready in time {reasons}".rstrip(), remedy="try again"
            ) from error

    async def remove(self, uid: str) -> None:
        """Stops to index a collection."""
        await self._end([key for key in self._shards if key[0] == uid])

    def wake(self, uid: str, position: Position) -> None:
        """Says that the feeds of a collection's shards have grown to `position`."""
        for shard, head in position.sequences.items():
            if (ingest := self._shards.get((uid, shard))) is not None:
                ingest.wake(head)

    def stalled(self, uid: str, shard: int) -> str:
        """Why a shard stands still; empty if it does not."""
        ingest = self._shards.get((uid, shard))
        return ingest.stall.reason if ingest is not None else ""

    async def stop(self) -> None:
        """Stops all, in an orderly way: nothing half-built is published."""
        await self._end(list(self._shards))

    async def _end(self, keys: list[tuple[str, int]]) -> None:
        tasks = [self._tasks.pop(key) for key in keys]
        for key in keys:
            del self._shards[key]
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
