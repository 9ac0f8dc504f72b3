"""What a database reports, in our words; and which of it is worth another try."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.errors import BadEnvironment, StorageFull, StoreUnavailable, TriremeError

_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_SQLITE_UNUSABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DISK_FULL = "53100"
_UNIQUE_VIOLATION = "23505"
_UNUSABLE = ("25006", "28000", "28P01", "3D000", "42501")
"""Read-only, not allowed in, no such database, not allowed to."""
_CONFLICTS = ("40001", "40P01", "55P03", _UNIQUE_VIOLATION)
"""Two writers met: not serialisable, deadlock, lock not to be had, both added the same key."""
_AWAY = ("08", "53", "57")
"""Classes: connection, resources, operator's intervention (shutdown, timeout)."""


def is_conflict(error: SQLAlchemyError) -> bool:
    """Whether writers met and nothing came of this one's transaction."""
    return _state(error) in _CONFLICTS


def is_lost(error: SQLAlchemyError) -> bool:
    """Whether the server is away, or goes away."""
    if not isinstance(error, DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    state = _state(error)
    return error.connection_invalidated or state[:2] in _AWAY or _never_answered(error)


def translated(error: SQLAlchemyError) -> TriremeError:
    """The failure as callers are told it."""
    original = error.orig if isinstance(error, DBAPIError) else None
    code, state = getattr(original, "sqlite_errorcode", None), _state(error)
    if code in _SQLITE_FULL or state == _DISK_FULL:
        return StorageFull("the document store's disk is full", remedy="free some space")
    if code in _SQLITE_UNUSABLE or state in _UNUSABLE or _never_let_in(original):
        return BadEnvironment(
            f"the document store cannot be used: {_line(original)}", field="database_url"
        )
    if is_lost(error):
        return StoreUnavailable(
            f"the document store does not answer: {_line(original)}",
            remedy="try again shortly with the same request id; searches are not affected",
        )
    if is_conflict(error):
        return StoreUnavailable(
            f"other writers were in the way: {_line(original)}", remedy="try again"
        )
    return TriremeError(f"the document store failed: {_line(original or error)}")


def _state(error: SQLAlchemyError) -> str:
    original = error.orig if isinstance(error, DBAPIError) else None
    return getattr(original, "sqlstate", None) or ""


def _never_answered(error: DBAPIError) -> bool:
    """psycopg's OperationalError without a state: there was no server to give one."""
    return type(error.orig).__name__ == "OperationalError" and not _state(error)


def _never_let_in(original: BaseException | None) -> bool:
    """Refused while connecting, of which libpq keeps the text and not the state."""
    text = str(original)
    return "FATAL:" in text and any(
        sign in text for sign in ("does not exist", "authentication failed", "no pg_hba.conf entry")
    )


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())
