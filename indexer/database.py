"""Connections to the document store: some threads write, some read, the event loop never waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from core.errors import NewerFormat
from indexer import tables
from indexer.database_errors import is_lost, translated
from indexer.engines import Engines, open_engines
from indexer.writers import Job, Result, Writers

_START_LOCK = 7_293_501
"""PostgreSQL's advisory lock under which tables are made: two indexers may start at once."""


class Database:
    """`await create(url)`, `await write(job)`, `await read(query)`, `await close()`."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self._writers = Writers(engines.writing, engines.writers)
        self._readers = ThreadPoolExecutor(engines.readers, thread_name_prefix="store-read")

    @classmethod
    async def create(cls, url: str) -> Database:
        """Opens the store and makes its tables.

        `url` is sqlite:////path/to/file or postgresql://user@host/database. Raises BadEnvironment
        if it cannot be opened, StoreUnavailable if its server does not answer, NewerFormat if newer
        software wrote it.
        """
        return await asyncio.to_thread(cls._open, url)

    @classmethod
    def _open(cls, url: str) -> Database:
        engines = open_engines(url)
        try:
            with engines.writing.begin() as connection:
                _prepare(connection)
        except SQLAlchemyError as error:
            engines.dispose()
            raise translated(error) from error
        except BaseException:
            engines.dispose()
            raise
        return cls(engines)

    async def write(self, job: Job[Result], *, lane: str = "") -> Result:
        """Runs `job` in a transaction and returns once it is durable.

        What `job` raises undoes the job alone; it may be run again, from the start, if other
        writers were in its way. Jobs with the same `lane`, and those without any, run in the order
        in which they were given. Raises StorageFull, with nothing changed, if the disk is full,
        StoreUnavailable if the server does not answer. Cancelled before its turn, the job does not
        run; later, it runs to its end.
        """
        return await asyncio.wrap_future(self._writers.submit(job, lane))

    async def read(self, query: Job[Result]) -> Result:
        """Runs `query` on a read-only connection that sees one committed state."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._query, query)

    def _query(self, query: Job[Result]) -> Result:
        try:
            return self._query_once(query)
        except SQLAlchemyError as error:
            if not is_lost(error):
                raise translated(error) from error
        # The server was started again, perhaps, and this connection is the old one's.
        try:
            return self._query_once(query)
        except SQLAlchemyError as error:
            raise translated(error) from error

    def _query_once(self, query: Job[Result]) -> Result:
        with self.engines.reading.begin() as connection:
            return query(connection)

    async def close(self) -> None:
        """Ends what was begun and closes every connection."""
        await asyncio.to_thread(self._writers.close)
        await asyncio.to_thread(self._readers.shutdown)
        self.engines.dispose()


def _prepare(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_START_LOCK})"))
    tables.meta.create(connection, checkfirst=True)
    known = select(tables.meta.c.value).where(tables.meta.c.key == "format")
    found = connection.execute(known).scalar_one_or_none()
    if found is not None and int(found) > tables.FORMAT:
        raise NewerFormat(
            f"the document store has format {found}, this software knows up to {tables.FORMAT}",
            field="database_url",
            remedy="run a newer version of this software",
        )
    tables.metadata.create_all(connection)
    if found is None:
        connection.execute(insert(tables.meta).values(key="format", value=str(tables.FORMAT)))
    elif int(found) < tables.FORMAT:
        tables.add_missing_columns(connection)
        connection.execute(
            update(tables.meta)
            .where(tables.meta.c.key == "format")
            .values(value=str(tables.FORMAT))
        )
