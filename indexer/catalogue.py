"""Collections in the document store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select, tuple_

from core.errors import CollectionExists, NotFound
from indexer.changes import first_chain
from indexer.tables import change, collection, document, removed, request, shard_head, suspect

PURGE_ROWS = 2_000
"""Rows cleared away per transaction, so that other writes get their turn between."""


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection as created; nothing of it ever changes. `create_micros` is since 1970.

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
    return CollectionRecord(**row._mapping)


def page(connection: Connection, after: str, limit: int) -> list[CollectionRecord]:
    """Up to `limit` collections with names above `after`, by name."""
    chosen = select(collection).where(collection.c.name > after).order_by(collection.c.name)
    return [CollectionRecord(**row._mapping) for row in connection.execute(chosen.limit(limit))]


def every(connection: Connection) -> list[CollectionRecord]:
    """All collections, by name."""
    chosen = select(collection).order_by(collection.c.name)
    return [CollectionRecord(**row._mapping) for row in connection.execute(chosen)]


def add(connection: Connection, record: CollectionRecord) -> None:
    """Adds a collection with empty shards; raises CollectionExists if the name is taken."""
    taken = select(collection.c.uid).where(collection.c.name == record.name)
    if connection.execute(taken).first() is not None:
        raise CollectionExists(
            f"{record.name!r} is there already",
            field="collection.name",
            remedy="choose another name, or delete that collection first",
        )
    connection.execute(insert(collection).values(**asdict(record)))
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
