"""Connections to the document store: one thread writes, two read, the event loop never waits.

SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint at once, so exactly
one connection does either and the readers are opened read-only.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from core.errors import BadEnvironment, NewerFormat, StorageFull, TriremeError
from indexer import tables

MAX_GROUP = 16
"""Jobs that share one commit, at most."""

READERS = 2

Result = TypeVar("Result")
Job = Callable[[Connection], Result]

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_POSTGRESQL_DISK_FULL = "53100"


class Database:
    """`await create(url)`, `await write(job)`, `await read(query)`, `await close()`."""

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self._writing = writing
        self._reading = reading
        self._writer = _Writer(writing)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")

    @classmethod
    async def create(cls, url: str) -> Database:
        """Opens the store and makes its tables.

        Raises BadEnvironment if it cannot be opened, NewerFormat if newer software wrote it.
        """
        return await asyncio.to_thread(cls._open, url)

    @classmethod
    def _open(cls, url: str) -> Database:
        writing, reading = _engines(url)
        try:
            with writing.begin() as connection:
                _prepare(connection)
        except SQLAlchemyError as error:
            raise _ours(error) from error
        return cls(writing, reading)

    async def write(self, job: Job[Result]) -> Result:
        """Runs `job` in a transaction and returns once it is durable.

        What `job` raises undoes the job alone. Raises StorageFull, with nothing changed, if the
        disk is full. Cancelled before its turn, the job does not run; later, it runs to its end.
        """
        return await asyncio.wrap_future(self._writer.submit(job))

    async def read(self, query: Job[Result]) -> Result:
        """Runs `query` on a read-only connection that sees one committed state."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._query, query)

    def _query(self, query: Job[Result]) -> Result:
        try:
            with self._reading.begin() as connection:
                return query(connection)
        except SQLAlchemyError as error:
            raise _ours(error) from error

    async def close(self) -> None:
        """Ends what was begun and closes every connection."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.shutdown)
        self._reading.dispose()
        self._writing.dispose()


class _Task(Generic[Result]):
    """A job and the future of its result."""

    def __init__(self, job: Job[Result]) -> None:
        self.job = job
        self.future: Future[Result] = Future()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        """Runs the job in a savepoint; errors of the database itself are not caught."""
        savepoint = connection.begin_nested()
        try:
            self._result = self.job(connection)
        except SQLAlchemyError:
            raise
        except Exception as error:
            savepoint.rollback()
            self._error = error
        else:
            savepoint.commit()

    def answer(self) -> None:
        """Tells whoever waits, after the commit."""
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]


class _Writer:
    """The one writing thread. Jobs that wait together are committed together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="store-write", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Result]) -> Future[Result]:
        if self._closed:
            raise BadEnvironment("the document store is closed")
        task = _Task(job)
        self._tasks.put(task)
        return task.future

    def close(self) -> None:
        self._closed = True
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            group = [task]
            while len(group) < MAX_GROUP and not self._tasks.empty():
                following = self._tasks.get()
                if following is None:
                    self._tasks.put(None)
                    break
                group.append(following)
            self._commit([task for task in group if task.future.set_running_or_notify_cancel()])

    def _commit(self, group: list[_Task[Any]]) -> None:
        try:
            with self._engine.begin() as connection:
                for task in group:
                    task.run(connection)
        except BaseException as error:
            failure = _ours(error) if isinstance(error, SQLAlchemyError) else error
            failure.__cause__ = error if failure is not error else failure.__cause__
            for task in group:
                task.future.set_exception(failure)
            return
        for task in group:
            task.answer()


def _engines(url: str) -> tuple[Engine, Engine]:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadEnvironment(f"{url!r} is not a database URL", field="database_url") from error
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed)
        return engine, engine
    if not parsed.database or parsed.database == ":memory:":
        raise BadEnvironment(
            "a store in memory would lose what it acknowledged",
            field="database_url",
            remedy="give a file, as in sqlite:////var/lib/trireme/store.db",
        )
    path = Path(parsed.database).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = create_engine(
        f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    reading = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", pool_size=READERS)
    event.listen(writing, "connect", _set_up_writer)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _set_up_reader)
    event.listen(reading, "begin", _begin)
    return writing, reading


def _set_up_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=5000")


def _set_up_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout=5000")


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that reads, then writes, fails busy at once if another wrote between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _prepare(connection: Connection) -> None:
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


def _ours(error: SQLAlchemyError) -> TriremeError:
    original = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(original, "sqlite_errorcode", None)
    if code in _FULL or getattr(original, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
        return StorageFull("the document store's disk is full", remedy="free some space")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY):
        return BadEnvironment(
            f"the document store cannot be opened: {original}", field="database_url"
        )
    return TriremeError(f"the document store failed: {original or error}")
