"""How each database is opened: SQLite with one writing connection, PostgreSQL with several.

SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint at once, so exactly
one connection does either and the readers are opened read-only.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from core.errors import BadEnvironment

SQLITE_READERS = 2
POSTGRESQL_READERS = 4
POSTGRESQL_WRITERS = 4

# A statement takes milliseconds. What takes this long waits for somebody who is gone.
_SESSION = """
    SELECT set_config('statement_timeout', '30s', false),
           set_config('lock_timeout', '10s', false),
           set_config('idle_in_transaction_session_timeout', '60s', false),
           set_config('synchronous_commit', CASE current_setting('synchronous_commit')
               WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""
_CONNECTING = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "application_name": "trireme-indexer",
}


@dataclass(frozen=True, slots=True)
class Engines:
    """Where to write and where to read, and over how many connections at a time."""

    writing: Engine
    reading: Engine
    writers: int
    readers: int

    def dispose(self) -> None:
        """Closes every connection."""
        self.reading.dispose()
        self.writing.dispose()


def open_engines(url: str) -> Engines:
    """The engines of a database; connects to nothing yet. Raises BadEnvironment."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadEnvironment(
            f"{url!r} is not a database URL",
            field="database_url",
            remedy="write sqlite:////path/to/file or postgresql://user@host/database",
        ) from error
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return _sqlite(parsed)
    if backend in ("postgresql", "postgres"):
        return _postgresql(parsed)
    raise BadEnvironment(
        f"{backend!r} is neither sqlite nor postgresql",
        field="database_url",
        remedy="use one of these two",
    )


def _sqlite(url: URL) -> Engines:
    if not url.database or url.database == ":memory:":
        raise BadEnvironment(
            "a store in memory would lose what it acknowledged",
            field="database_url",
            remedy="give a file, as in sqlite:////var/lib/trireme/store.db",
        )
    path = Path(url.database).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = create_engine(
        f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    reading = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", pool_size=SQLITE_READERS)
    event.listen(writing, "connect", _set_up_writer)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _set_up_reader)
    event.listen(reading, "begin", _begin)
    return Engines(writing, reading, writers=1, readers=SQLITE_READERS)


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


def _postgresql(url: URL) -> Engines:
    """Writers see what was committed before each statement, so that a row lock, once taken, shows
    the newest row; readers see one moment."""
    # What the URL says comes first.
    options = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    url = url.set(drivername="postgresql+psycopg")
    try:
        writing = create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=POSTGRESQL_WRITERS,
            max_overflow=0,
            connect_args=options,
        )
        reading = create_engine(
            url,
            isolation_level="REPEATABLE READ",
            pool_size=POSTGRESQL_READERS,
            max_overflow=0,
            connect_args=options,
        ).execution_options(postgresql_readonly=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise BadEnvironment(
            "the driver of PostgreSQL is not installed",
            field="database_url",
            remedy="pip install 'trireme[postgresql]'",
        ) from error
    for engine in (writing, reading):
        event.listen(engine, "connect", _set_up_session)
    return Engines(writing, reading, writers=POSTGRESQL_WRITERS, readers=POSTGRESQL_READERS)


def _set_up_session(connection: Any, _record: object) -> None:
    """Limits what waits for ever, and makes a commit mean durable where the server's default does
    not."""
    connection.execute(_SESSION)
    connection.commit()
