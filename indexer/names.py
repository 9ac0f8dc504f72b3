"""What names stand for, from the document store to the readers of the index store.

The store is the truth; after each commit the names are written to the index store as one file with
a revision, which shards read. A crash between the two is made good by the next start.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Connection, insert, select, update

from core.errors import TriremeError
from core.names import Names
from indexer import catalogue
from indexer.shared import Shared, to_its_end
from indexer.tables import alias, collection, meta
from indexer.writers import Job, Result

log = logging.getLogger(__name__)

_REVISION = "names_revision"
RETRY_SECONDS = 1.0


def read(connection: Connection) -> Names:
    """All names as they are in this transaction."""
    aliases = select(alias.c.name, collection.c.name).join_from(
        alias, collection, alias.c.uid == collection.c.uid
    )
    records = catalogue.every(connection)
    return Names(
        _revision(connection),
        {row[0]: row[1] for row in connection.execute(aliases)},
        {each.name: each.index_name for each in records if each.index_name != each.name},
    )


def count_up(connection: Connection, *, above: int = 0) -> None:
    """Makes the revision the next one; a part of every transaction that changes names."""
    # Locked until the commit, so that two changes never get the same number.
    revision = _revision(connection, lock=True)
    following = str(max(revision, above) + 1)
    if revision:
        connection.execute(update(meta).where(meta.c.key == _REVISION).values(value=following))
    else:
        connection.execute(insert(meta).values(key=_REVISION, value=following))


def _revision(connection: Connection, *, lock: bool = False) -> int:
    chosen = select(meta.c.value).where(meta.c.key == _REVISION)
    if lock:
        chosen = chosen.with_for_update()
    return int(connection.execute(chosen).scalar_one_or_none() or 0)


class NameBook:
    """Changes names and tells readers: `await start()`, `await stop()`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._writing = asyncio.Lock()
        self._written = Names()
        self._retry: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Makes the file say what the store says.

        A file with a higher revision is of a store that was restored since: it must be exceeded,
        because readers keep the highest that they have seen.
        """
        stored = await self._shared.database.read(read)
        try:
            file = await self._shared.work("names", self._read_file)
        except TriremeError as error:
            log.error("names unreadable, written anew", extra={"why": str(error)})
            file = Names()
        if file == stored:
            self._written = file
        elif file.revision >= stored.revision:
            above = file.revision
            await self._shared.database.write(lambda connection: count_up(connection, above=above))
        await self.publish()

    async def stop(self) -> None:
        """Gives up what could not be written; the next start makes it good."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)

    async def change(self, job: Job[Result]) -> Result:
        """Runs `job`, which changes names, in one transaction with the revision; tells readers.

        Raises what `job` raises, with nothing changed.
        """

        def counted(connection: Connection) -> Result:
            result = job(connection)
            count_up(connection)
            return result

        async def store_and_tell() -> Result:
            result = await self._shared.database.write(counted)
            await self.publish()
            return result

        return await to_its_end(store_and_tell())

    async def publish(self) -> None:
        """Writes the names for readers if they have changed; again and again if that fails."""
        try:
            await self._publish()
        except TriremeError as error:
            log.error("names not written", extra={"why": str(error)})
            if self._retry is None or self._retry.done():
                self._retry = asyncio.create_task(self._publish_later())

    async def _publish_later(self) -> None:
        await asyncio.sleep(RETRY_SECONDS)
        self._retry = None
        await self.publish()

    async def _publish(self) -> None:
        async with self._writing:
            names = await self._shared.database.read(read)
            if names.revision <= self._written.revision:
                return
            data = names.to_bytes()
            store = self._shared.index_store
            await self._shared.work("names", lambda: store.write_names(data))
            self._written = names
        log.info("names changed", extra={"revision": names.revision})

    def _read_file(self) -> Names:
        return Names.from_bytes(self._shared.index_store.read_names())
