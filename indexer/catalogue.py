"""Collections in the document store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, tuple_, update

from core.errors import CollectionExists, NotFound
from core.ranking_wish import OPEN, RankingWish
from indexer.changes import first_chain
from indexer.tables import change, collection, document, removed, request, shard_head, suspect

PURGE_ROWS = 2_000
"""Rows cleared away per transaction, so that other writes get their turn between."""


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection; only its `search_defaults` ever change. `create_micros` is since 1970.

    `dimension` is that of its vectors, which may be fewer components than its encoder gives. All
    of `sparse_*` is empty if it has no learned-sparse leg.
    """

    uid: str
    name: str
    shard_count: int
    encoder_model: str
    encoder_version: str
    encoder_fingerprint: str
    dimension: int
    similarity: str
    max_tokens: int
    overlap_tokens: int
    create_micros: int
    sparse_model: str = ""
    sparse_version: str = ""
    sparse_fingerprint: str = ""
    sparse_dimension: int = 0
    search_defaults: RankingWish = OPEN


def find(connection: Connection, name: str, *, field: str = "collection") -> CollectionRecord:
    """The collection of that name; raises NotFound (COLLECTION_NOT_FOUND)."""
    row = connection.execute(select(collection).where(collection.c.name == name)).first()
    if row is None:
        raise NotFound(
            "COLLECTION_NOT_FOUND",
            f"no collection is called {name!r}",
            field=field,
            remedy="create it, or list the ones there are",
        )
    return _record(row)


def page(connection: Connection, after: str, limit: int) -> list[CollectionRecord]:
    """Up to `limit` collections with names above `after`, by name."""
    chosen = select(collection).where(collection.c.name > after).order_by(collection.c.name)
    return [_record(row) for row in connection.execute(chosen.limit(limit))]


def every(connection: Connection) -> list[CollectionRecord]:
    """All collections, by name."""
    chosen = select(collection).order_by(collection.c.name)
    return [_record(row) for row in connection.execute(chosen)]


def add(connection: Connection, record: CollectionRecord) -> None:
    """Adds a collection with empty shards; raises CollectionExists if the name is taken."""
    taken = select(collection.c.uid).where(collection.c.name == record.name)
    if connection.execute(taken).first() is not None:
        raise CollectionExists(
            f"{record.name!r} is there already",
            field="collection.name",
            remedy="choose another name, or delete that collection first",
        )
    connection.execute(insert(collection).values(_values(record)))
    for shard in range(record.shard_count):
        chain = first_chain(record.uid, shard)
        connection.execute(
            insert(shard_head).values(
                uid=record.uid,
                shard=shard,
                head=0,
                chain=chain,
                documents=0,
                epoch=0,
                owner="",
                generation=0,
                manifest="",
                covers_sequence=0,
                covers_chain=chain,
                trying=0,
                attempts=0,
            )
        )


def set_search_defaults(
    connection: Connection, name: str, change: Callable[[RankingWish], RankingWish]
) -> CollectionRecord:
    """Changes how searches of a collection rank; returns it as it is then. Raises NotFound."""
    record = find(connection, name, field="collection.name")
    changed = replace(record, search_defaults=change(record.search_defaults))
    connection.execute(
        update(collection)
        .where(collection.c.uid == record.uid)
        .values(search_defaults=_text(changed.search_defaults))
    )
    return changed


def remove(connection: Connection, name: str) -> CollectionRecord:
    """Takes a collection's name away and marks the rest for `purge`; raises NotFound."""
    record = find(connection, name, field="name")
    connection.execute(delete(collection).where(collection.c.uid == record.uid))
    connection.execute(delete(shard_head).where(shard_head.c.uid == record.uid))
    connection.execute(insert(removed).values(uid=record.uid))
    return record


def unfinished_removals(connection: Connection) -> Sequence[str]:
    """Uids of collections that were removed but not cleared away."""
    return connection.execute(select(removed.c.uid)).scalars().all()


def purge(connection: Connection, uid: str) -> bool:
    """Clears away some rows of a removed collection; True once nothing is left."""
    for table in (change, document, request, suspect):
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(table.c.uid == uid).limit(PURGE_ROWS)
        if connection.execute(delete(table).where(key.in_(some))).rowcount:
            return False
    connection.execute(delete(removed).where(removed.c.uid == uid))
    return True


def _record(row: Row[Any]) -> CollectionRecord:
    values = dict(row._mapping)
    text = values["search_defaults"]
    values["search_defaults"] = RankingWish.from_json(text) if text else OPEN
    return CollectionRecord(**values)


def _values(record: CollectionRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return values | {"search_defaults": _text(record.search_defaults)}


def _text(wish: RankingWish) -> str:
    return "" if wish == OPEN else wish.to_json()
