"""Documents that fail alone: counted before each attempt, set aside after some."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, Update, insert, select, update

from indexer.changes import Change
from indexer.clock import now_micros
from indexer.tables import suspect

log = logging.getLogger(__name__)


def count_attempt(connection: Connection, uid: str, shard: int, change: Change) -> int:
    """Counts an attempt at one document, before it is made; returns how many there are now."""
    now = now_micros()
    row = connection.execute(
        _of(uid, shard, change)
        .values(attempts=suspect.c.attempts + 1, last_micros=now)
        .returning(suspect.c.attempts)
    ).first()
    if row is not None:
        return int(row.attempts)
    connection.execute(
        insert(suspect).values(
            uid=uid,
            shard=shard,
            sequence=change.sequence,
            id=change.id,
            version=change.version,
            attempts=1,
            reason="",
            first_micros=now,
            last_micros=now,
        )
    )
    return 1


def set_aside(connection: Connection, uid: str, shard: int, change: Change, reason: str) -> bool:
    """Quarantines one version of a document, for good; False if it is already.

    A newer version of the document starts afresh.
    """
    if set_aside_among(connection, uid, shard, [change.sequence]):
        return False
    values = {"quarantined": True, "reason": reason, "last_micros": now_micros()}
    if not connection.execute(_of(uid, shard, change).values(values)).rowcount:
        count_attempt(connection, uid, shard, change)
        connection.execute(_of(uid, shard, change).values(values))
    log.error(
        "document quarantined",
        extra={"uid": uid, "shard": shard, "id": change.id, "why": reason},
    )
    return True


def set_aside_among(
    connection: Connection, uid: str, shard: int, sequences: Sequence[int]
) -> frozenset[int]:
    """Which of these changes are quarantined."""
    chosen = select(suspect.c.sequence).where(
        suspect.c.uid == uid,
        suspect.c.shard == shard,
        suspect.c.sequence.in_(sequences),
        suspect.c.quarantined,
    )
    return frozenset(connection.execute(chosen).scalars())


def _of(uid: str, shard: int, change: Change) -> Update:
    return update(suspect).where(
        suspect.c.uid == uid, suspect.c.shard == shard, suspect.c.sequence == change.sequence
    )
