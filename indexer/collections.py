"""Collections from creation to removal, in the document store, the index store and the fleet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from core.deadline import Deadline
from core.errors import TriremeError
from core.index_store import CollectionEntry
from core.ranking_wish import RankingWish
from indexer import catalogue, heads
from indexer.catalogue import CollectionRecord
from indexer.fleet import Fleet
from indexer.heads import Progress
from indexer.shared import Shared, to_its_end
from indexer.wishes import Wish, grant

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection with the progress of its shards and why each stands still, if it does."""

    record: CollectionRecord
    shards: tuple[tuple[Progress, str], ...]


class Collections:
    """All collections of this indexer."""

    def __init__(self, shared: Shared, fleet: Fleet) -> None:
        self._shared = shared
        self._fleet = fleet
        # So that shards hear last what was stored last, also those that are being added.
        self._updating = asyncio.Lock()
        self._purges: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Goes on where the last process stopped: removals to finish, collections to index."""
        unfinished = await self._shared.database.read(catalogue.unfinished_removals)
        for uid in unfinished:
            await self._shared.work("delete", partial(self._delete_files, uid))
            self._purge_later(uid)
        async with self._updating:
            for record in await self._shared.database.read(catalogue.every):
                await self._shared.work("create", partial(self._create_files, record))
                self._fleet.add(record)

    async def stop(self) -> None:
        """Stops indexing; removals go on with the next start."""
        await self._fleet.stop()
        for task in self._purges:
            task.cancel()
        await asyncio.gather(*self._purges, return_exceptions=True)

    async def create(self, wish: Wish, deadline: Deadline) -> CollectionStatus:
        """Creates a collection and returns once every shard has its first, empty generation.

        Raises InvalidInput, CollectionExists, NotFound (MODEL_NOT_FOUND), ModelMismatch,
        TritonUnavailable, StorageFull, OutOfTime; nothing is left of it then.
        """
        config = self._shared.config
        record = await grant(wish, self._shared.encoders, config, deadline)
        await self._shared.database.write(lambda connection: catalogue.add(connection, record))
        try:
            await self._shared.work("create", partial(self._create_files, record))
            async with self._updating:
                self._fleet.add(await self._find(record.name))
            await self._fleet.until_published(record, deadline)
        except (TriremeError, asyncio.CancelledError):
            await self.delete(record.name)
            raise
        log.info("collection created", extra={"collection": record.name, "uid": record.uid})
        return await self.get(record.name)

    async def update(
        self, name: str, change: Callable[[RankingWish], RankingWish]
    ) -> CollectionStatus:
        """Changes a collection's search defaults; its shards publish them by and by.

        Raises NotFound.
        """

        async def store_and_tell() -> CollectionRecord:
            async with self._updating:
                record = await self._shared.database.write(
                    lambda connection: catalogue.set_search_defaults(connection, name, change)
                )
                self._fleet.rank_by(record)
                return record

        record = await to_its_end(store_and_tell())
        log.info("search defaults changed", extra={"collection": name, "uid": record.uid})
        return (await self._statuses([record]))[0]

    async def get(self, name: str) -> CollectionStatus:
        """One collection; raises NotFound."""
        return (await self._statuses([await self._find(name)]))[0]

    async def page(self, after: str, limit: int) -> tuple[list[CollectionStatus], bool]:
        """Up to `limit` collections with names above `after`, and whether there are more."""
        records = await self._shared.database.read(
            lambda connection: catalogue.page(connection, after, limit + 1)
        )
        return await self._statuses(records[:limit]), len(records) > limit

    async def delete(self, name: str) -> None:
        """Removes a collection: its name and files at once, its rows by and by. Raises NotFound."""
        record = await self._shared.database.write(
            lambda connection: catalogue.remove(connection, name)
        )
        await self._fleet.remove(record.uid)
        await self._shared.work("delete", partial(self._delete_files, record.uid))
        self._purge_later(record.uid)
        log.info("collection deleted", extra={"collection": name, "uid": record.uid})

    async def _find(self, name: str) -> CollectionRecord:
        return await self._shared.database.read(
            lambda connection: catalogue.find(connection, name, field="name")
        )

    async def _statuses(self, records: Sequence[CollectionRecord]) -> list[CollectionStatus]:
        uids = [record.uid for record in records]
        rows = await self._shared.database.read(lambda connection: heads.progress(connection, uids))
        found: dict[str, list[tuple[Progress, str]]] = {uid: [] for uid in uids}
        for row in rows:
            found[row.uid].append((row, self._fleet.stalled(row.uid, row.shard)))
        return [CollectionStatus(record, tuple(found[record.uid])) for record in records]

    def _create_files(self, record: CollectionRecord) -> None:
        entry = CollectionEntry(record.name, record.uid, record.shard_count)
        self._shared.index_store.create_collection(entry)

    def _delete_files(self, uid: str) -> None:
        started = time.monotonic()
        self._shared.index_store.delete_collection(uid)
        log.info(
            "collection's files removed",
            extra={"uid": uid, "seconds": round(time.monotonic() - started, 3)},
        )

    def _purge_later(self, uid: str) -> None:
        task = asyncio.create_task(self._purge(uid))
        self._purges.add(task)
        task.add_done_callback(self._purges.discard)

    async def _purge(self, uid: str) -> None:
        try:
            while not await self._shared.database.write(
                lambda connection: catalogue.purge(connection, uid)
            ):
                pass
        except TriremeError as error:
            log.warning("rows not cleared away", extra={"uid": uid, "why": str(error)})
