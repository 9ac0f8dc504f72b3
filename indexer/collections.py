"""Collections from creation to removal, in the document store, the index store and the fleet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from core.deadline import Deadline
from core.errors import TriremeError
from core.filters.schema import Schema, merged
from core.index_store import CollectionEntry
from indexer import aliases, catalogue, heads
from indexer.catalogue import CollectionRecord
from indexer.fleet import Fleet
from indexer.heads import Progress
from indexer.migration import store
from indexer.names import NameBook
from indexer.shared import Shared, to_its_end
from indexer.vector_state import VectorState
from indexer.wishes import Wish, grant

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection with the progress of its shards and why each stands still, if it does.

    `vectors` tells the vector index of each shard, `schema` what is known of its documents'
    attributes, `aliases` are its second names, `other`
    is it with the second index of a migration under way.
    """

    record: CollectionRecord
    shards: tuple[tuple[Progress, str], ...]
    schema: Schema
    vectors: tuple[VectorState, ...]
    aliases: tuple[str, ...] = ()
    other: CollectionRecord | None = None


class Collections:
    """All collections of this indexer."""

    def __init__(self, shared: Shared, fleet: Fleet, names: NameBook) -> None:
        self._shared = shared
        self._fleet = fleet
        self._names = names
        # So that shards hear last what was stored last, also those that are being added.
        self.updating = asyncio.Lock()
        self._purges: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Goes on where the last process stopped: removals to finish, collections to index."""
        unfinished = await self._shared.database.read(catalogue.unfinished_removals)
        for uid in unfinished:
            await self._shared.work("delete", partial(self._delete_files, uid))
            self.purge_later(uid)
        await self._names.start()
        async with self.updating:
            for record in await self._shared.database.read(catalogue.every):
                await self._shared.work("create", partial(self._create_files, record))
                self._fleet.add(record)

    async def stop(self) -> None:
        """Stops indexing; removals go on with the next start."""
        await self._fleet.stop()
        await self._names.stop()
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
            async with self.updating:
                self._fleet.add(await self._find(record.name))
            await self._fleet.until_published(record, deadline)
        except (TriremeError, asyncio.CancelledError):
            await self.delete(record.name)
            raise
        log.info("collection created", extra={"collection": record.name, "uid": record.uid})
        return await self.get(record.name)

    async def update(self, name: str, change: catalogue.Change) -> CollectionStatus:
        """Changes a collection's settings; its shards go by them by and by.

        Raises NotFound.
        """

        async def store_and_tell() -> CollectionRecord:
            async with self.updating:
                record = await self._shared.database.write(
                    lambda connection: catalogue.alter(connection, name, change)
                )
                self._fleet.go_by(record)
                return record

        record = await to_its_end(store_and_tell())
        log.info("settings changed", extra={"collection": name, "uid": record.uid})
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
        """Removes a collection: its name and files at once, its rows by and by.

        Raises NotFound, CollectionHasAliases.
        """
        # Another collection may get the name: it must not be looked for in an index of this one.
        uids = await self._names.change(lambda connection: catalogue.remove(connection, name))
        for uid in uids:
            await self._fleet.remove(uid)
            await self._shared.work("delete", partial(self._delete_files, uid))
            self.purge_later(uid)
        log.info("collection deleted", extra={"collection": name, "uid": uids[0]})

    async def adopt(self, record: CollectionRecord) -> CollectionStatus:
        """Starts to index a collection that was put into the document store."""
        await self._shared.work("create", partial(self._create_files, record))
        async with self.updating:
            self._fleet.add(await self._find(record.name))
        return await self.get(record.name)

    async def _find(self, name: str) -> CollectionRecord:
        return await self._shared.database.read(
            lambda connection: catalogue.find(connection, name, field="name")
        )

    async def _statuses(self, records: Sequence[CollectionRecord]) -> list[CollectionStatus]:
        uids = [record.index for record in records]
        of = [record.uid for record in records]
        rows, second, others = await self._shared.database.read(
            lambda connection: (
                heads.progress(connection, uids),
                aliases.of(connection, of),
                store.idle_indexes(connection),
            )
        )
        found: dict[str, list[tuple[Progress, str]]] = {uid: [] for uid in uids}
        for row in rows:
            stalled = self._fleet.stalled(row.uid, row.shard)
            found[row.uid].append((self._fleet.timed(row), stalled))
        return [
            CollectionStatus(
                record,
                tuple(found[record.index]),
                merged([record.schema_, *self._fleet.schemas(record.index)]),
                tuple(
                    self._fleet.vectors(record.index, progress.shard)
                    for progress, _ in found[record.index]
                ),
                tuple(second.get(record.uid, ())),
                others.get(record.uid),
            )
            for record in records
        ]

    def _create_files(self, record: CollectionRecord) -> None:
        entry = CollectionEntry(record.index_name, record.index, record.shard_count)
        self._shared.index_store.create_collection(entry)

    def _delete_files(self, uid: str) -> None:
        started = time.monotonic()
        self._shared.index_store.delete_collection(uid)
        log.info(
            "collection's files removed",
            extra={"uid": uid, "seconds": round(time.monotonic() - started, 3)},
        )

    def purge_later(self, uid: str) -> None:
        """Clears the rows of a uid away that is marked for it, in the background."""
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
