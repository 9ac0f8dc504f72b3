"""The two indexes of a migration as running things: made, followed, put in order, dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection

from core.index_store import CollectionEntry
from indexer import catalogue, heads
from indexer.catalogue import CollectionRecord
from indexer.collections import Collections
from indexer.fleet import Fleet
from indexer.migration.records import index_values, with_index
from indexer.shared import Shared

log = logging.getLogger(__name__)


class Indexes:
    """`add` an index beside the one that answers, `drop` one that lost."""

    def __init__(self, shared: Shared, fleet: Fleet, collections: Collections) -> None:
        self._shared = shared
        self._fleet = fleet
        self._collections = collections

    async def add(self, record: CollectionRecord, *, tokens_per_second: int = 0) -> None:
        """Folds the collection's feed into the index of `record`, behind live indexing.

        Raises NotFound if the collection is gone.
        """
        async with self._collections.updating:
            # Its settings may have changed since `record` was read.
            record = await self._shared.database.read(partial(_as_it_is_now, record=record))
            entry = CollectionEntry(record.index_name, record.index, record.shard_count)
            store = self._shared.index_store
            await self._shared.work("create", partial(store.create_collection, entry))
            self._fleet.add(record)
        pace = self._fleet.pace(record.index)
        pace.behind, pace.tokens_per_second = True, tokens_per_second

    async def stop(self, record: CollectionRecord) -> None:
        """Folds nothing more into an index; what is published stays."""
        await self._fleet.remove(record.index)

    async def drop(self, record: CollectionRecord) -> None:
        """Removes an index with its files; doing so again changes nothing."""
        await self.stop(record)
        store = self._shared.index_store
        await self._shared.work("delete", partial(store.delete_collection, record.index))
        log.info("index released", extra={"collection": record.index_name, "uid": record.index})

    def unlimited(self, record: CollectionRecord) -> None:
        """Lifts the limit of an index that has caught up; it stays behind live indexing."""
        self._fleet.pace(record.index).tokens_per_second = 0

    def hold(self, record: CollectionRecord, held: bool) -> None:
        """Lets an index begin nothing new for a while."""
        self._fleet.pace(record.index).hold(held)

    def put_first(self, record: CollectionRecord, *, before: CollectionRecord) -> None:
        """Lets one index take its turns before the other from now on."""
        self._fleet.pace(record.index).behind = False
        self._fleet.pace(before.index).behind = True

    async def lag(self, record: CollectionRecord) -> int:
        """Changes of the feed that an index does not cover yet."""
        covered = self._fleet.covered(record.index)
        heads_now = await self.feed_heads(record)
        return sum(head - max(0, covered.get(shard, 0)) for shard, head in heads_now.items())

    async def feed_heads(self, record: CollectionRecord) -> dict[int, int]:
        """The last change accepted for each shard."""
        index = record.index
        rows = await self._shared.database.read(lambda c: heads.progress(c, [index]))
        return {row.shard: row.head for row in rows}

    async def covers(
        self, record: CollectionRecord, wanted: Mapping[int, int], seconds: float
    ) -> bool:
        """Waits up to `seconds` until what is published covers these changes; whether it does."""
        try:
            async with asyncio.timeout(seconds):
                await self._fleet.until_covered(record.index, wanted)
        except TimeoutError:
            return False
        return True

    async def draws_level(
        self, record: CollectionRecord, ahead: CollectionRecord, seconds: float
    ) -> bool:
        """Waits up to `seconds` until an index publishes all that `ahead` does; whether so."""
        known = dict.fromkeys(range(ahead.shard_count), 0)
        try:
            async with asyncio.timeout(seconds):
                await self._fleet.until_covered(ahead.index, known)
                while self._is_behind(record, ahead):
                    wanted = self._fleet.covered(ahead.index)
                    await self._fleet.until_covered(record.index, wanted)
        except TimeoutError:
            return False
        return True

    def stalled(self, record: CollectionRecord, shard: int) -> str:
        """Why a shard of an index stands still; empty if it does not."""
        return self._fleet.stalled(record.index, shard)

    def _is_behind(self, record: CollectionRecord, ahead: CollectionRecord) -> bool:
        reached = self._fleet.covered(record.index)
        wanted = self._fleet.covered(ahead.index)
        return any(reached.get(shard, -1) < sequence for shard, sequence in wanted.items())


def _as_it_is_now(connection: Connection, record: CollectionRecord) -> CollectionRecord:
    present = catalogue.find(connection, record.name)
    return with_index(present, index_values(record))
