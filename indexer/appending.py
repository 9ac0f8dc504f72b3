"""One batch of writes as one transaction: lock the feeds, number the writes, append, point.

The rows of the feeds' heads are locked first, by ascending shard, and stay locked until the commit:
sequence order is commit order, without gaps, and whoever waited for the lock sees what was written
before. A document belongs to one shard, so its row needs no lock of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from core.documents import shard_of
from core.errors import NotFound
from indexer.bulk import insert_rows, rows_among
from indexer.catalogue import CollectionRecord
from indexer.changes import DELETE, Change, next_chain
from indexer.clock import now_micros
from indexer.tables import change, document, shard_head


@dataclass(frozen=True, slots=True)
class Write:
    """One document's part of a batch; `content` is title, text and attributes as JSON, or None for
    a removal."""

    id: str
    content: tuple[str, str, str] | None


@dataclass(slots=True)
class _Feed:
    """The end of one shard's feed."""

    head: int
    chain: str
    documents: int


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is there of an id."""

    id: str
    sequence: int
    version: int
    deleted: bool


def append(
    connection: Connection, record: CollectionRecord, op: str, writes: Sequence[Write]
) -> dict[str, Any]:
    """Applies a batch of distinct ids; returns the answer to it as JSON values.

    Removals of what is not there are left out. Raises NotFound if the collection is gone.
    """
    by_shard: dict[int, list[Write]] = {}
    for write in writes:
        by_shard.setdefault(shard_of(write.id, record.shard_count), []).append(write)
    feeds = _lock(connection, record, by_shard)
    stored = _read_stored(connection, record.uid, [write.id for write in writes])
    now = now_micros()
    grown: dict[int, list[Change]] = {}
    for shard, feed in feeds.items():
        wanted = [w for w in by_shard[shard] if op != DELETE or _is_live(stored.get(w.id))]
        if wanted:
            grown[shard] = _extend(feed, op, wanted, stored, now)
    if grown:
        _write(connection, record.uid, feeds, grown, deleted=op == DELETE)
    versions = {each.id: each.version for changes in grown.values() for each in changes}
    return {
        "position": {shard: feeds[shard].head for shard in grown},
        "versions": [versions[write.id] for write in writes if write.id in versions],
        "count": len(versions),
    }


def _lock(
    connection: Connection, record: CollectionRecord, shards: Iterable[int]
) -> dict[int, _Feed]:
    wanted = sorted(shards)
    rows = connection.execute(_HEADS, {"of_uid": record.uid, "of_shards": wanted})
    feeds = {row.shard: _Feed(*row[1:]) for row in rows}
    if len(feeds) < len(wanted):
        raise NotFound(
            "COLLECTION_NOT_FOUND",
            f"{record.name!r} was removed just now",
            field="collection",
            remedy="create it again, or write to another",
        )
    return feeds


def _read_stored(connection: Connection, uid: str, ids: Sequence[str]) -> dict[str, _Stored]:
    rows = rows_among(connection, document, _Stored.__slots__, uid, ids)
    return {row[0]: _Stored(*row) for row in rows}


def _is_live(found: _Stored | None) -> bool:
    return found is not None and not found.deleted


def _extend(
    feed: _Feed, op: str, writes: Iterable[Write], stored: dict[str, _Stored], now: int
) -> list[Change]:
    """Moves the end of a feed on by some writes; returns what it grows by."""
    changes = []
    for write in writes:
        before = stored.get(write.id)
        version = before.version + 1 if before else 1
        title, body, attributes = write.content or ("", "", "{}")
        content = (title, body, attributes, now)
        feed.head += 1
        feed.chain = next_chain(feed.chain, id=write.id, version=version, op=op, content=content)
        feed.documents += (op != DELETE) - _is_live(before)
        previous = before.sequence if before else 0
        changes.append(
            Change(feed.head, write.id, version, op, previous, *content, chain=feed.chain)
        )
    return changes


def _write(
    connection: Connection,
    uid: str,
    feeds: dict[int, _Feed],
    grown: dict[int, list[Change]],
    *,
    deleted: bool,
) -> None:
    """Adds to the feeds, points the documents at their newest changes, moves the heads."""
    changes = [(uid, shard, each) for shard in grown for each in grown[shard]]
    insert_rows(connection, change, [(uid, shard, *_values(each)) for uid, shard, each in changes])
    pointers = [(u, each.id, s, each.sequence, each.version, deleted) for u, s, each in changes]
    insert_rows(connection, document, pointers, replacing=("sequence", "version", "deleted"))
    moved = [
        {
            "of_uid": uid,
            "of_shard": shard,
            "new_head": feeds[shard].head,
            "new_chain": feeds[shard].chain,
            "new_documents": feeds[shard].documents,
        }
        for shard in grown
    ]
    connection.execute(_MOVE_HEAD, moved)


_values = attrgetter(*(field.name for field in fields(Change)))
_HEADS = (
    select(shard_head.c.shard, shard_head.c.head, shard_head.c.chain, shard_head.c.documents)
    .where(
        shard_head.c.uid == bindparam("of_uid"),
        shard_head.c.shard.in_(bindparam("of_shards", expanding=True)),
    )
    .order_by(shard_head.c.shard)
    .with_for_update()
)
_MOVE_HEAD = (
    update(shard_head)
    .where(shard_head.c.uid == bindparam("of_uid"), shard_head.c.shard == bindparam("of_shard"))
    .values(
        head=bindparam("new_head"),
        chain=bindparam("new_chain"),
        documents=bindparam("new_documents"),
    )
)
