"""Documents that were set aside: listed for people, and written again to be tried once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, select

from core.documents import MAX_BATCH_DOCUMENTS, Position
from indexer.appending import Write, append
from indexer.catalogue import CollectionRecord
from indexer.changes import UPSERT
from indexer.tables import change, document, shard_head, suspect


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document whose present version is set aside; times in microseconds since 1970."""

    shard: int
    sequence: int
    id: str
    version: int
    attempts: int
    reason: str
    first_micros: int
    last_micros: int


@dataclass(frozen=True, slots=True)
class Retried:
    """What was written again: `position` is that of the writes, `ids` ascend."""

    position: Position
    ids: Sequence[str]


def page(
    connection: Connection, record: CollectionRecord, after: tuple[int, int], limit: int
) -> list[Quarantined]:
    """Up to `limit` of them that follow `after`, a shard and a sequence, in that order."""
    shard, sequence = after
    follows = (suspect.c.shard > shard) | (
        (suspect.c.shard == shard) & (suspect.c.sequence > sequence)
    )
    chosen = _set_aside(record, *(suspect.c[name] for name in Quarantined.__slots__))
    ordered = chosen.where(follows).order_by(suspect.c.shard, suspect.c.sequence)
    return [Quarantined(*row) for row in connection.execute(ordered.limit(limit))]


def retry(connection: Connection, record: CollectionRecord, ids: Sequence[str]) -> Retried:
    """Writes documents that are set aside again as they are, those of `ids`, or the first ones.

    Others are left out. A new version starts afresh, as any write does.
    """
    # Nobody may write a newer version between this look at the present one and the write.
    heads = select(shard_head.c.shard).where(shard_head.c.uid == record.uid)
    connection.execute(heads.order_by(shard_head.c.shard).with_for_update())
    content = (change.c.id, change.c.title, change.c.text, change.c.attributes)
    chosen = _set_aside(record, *content).join(
        change,
        and_(
            change.c.uid == record.uid,
            change.c.shard == suspect.c.shard,
            change.c.sequence == suspect.c.sequence,
        ),
    )
    if ids:
        chosen = chosen.where(suspect.c.id.in_(ids))
    ordered = chosen.order_by(suspect.c.shard, suspect.c.sequence).limit(MAX_BATCH_DOCUMENTS)
    writes = [
        Write(row.id, (row.title, row.text, row.attributes)) for row in connection.execute(ordered)
    ]
    if not writes:
        return Retried(Position({}), ())
    answer = append(connection, record, UPSERT, writes)
    return Retried(Position(answer["position"]), sorted(write.id for write in writes))


def _set_aside(record: CollectionRecord, *columns: Any) -> Select[Any]:
    """Rows of documents whose newest version is set aside."""
    newest = and_(
        document.c.uid == record.uid,
        document.c.id == suspect.c.id,
        document.c.shard == suspect.c.shard,
        document.c.sequence == suspect.c.sequence,
    )
    joined = select(*columns).select_from(suspect).join(document, newest)
    return joined.where(suspect.c.uid == record.index, suspect.c.quarantined)
