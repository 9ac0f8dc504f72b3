"""Collections in the document store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, tuple_, update

from core.errors import AliasExists, CollectionExists, CollectionHasAliases, NotFound
from core.filters.schema import NOTHING_DECLARED, Schema
from core.languages import ENGLISH, LexicalSettings
from core.ranking_wish import OPEN, RankingWish
from core.vectors.settings import DEFAULT, VectorSettings
from indexer.changes import first_chain
from indexer.tables import (
    alias,
    change,
    collection,
    document,
    migration,
    removed,
    request,
    shard_head,
    suspect,
    task,
)

PURGE_ROWS = 2_000
"""Rows cleared away per transaction, so that other writes get their turn between."""


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection; only its `search_defaults` and `vector_index` ever change.

    `create_micros` is since 1970.
    `dimension` is that of its vectors, which may be fewer components than its encoder gives. All
    of `sparse_*` is empty if it has no learned-sparse leg. `schema_` and `vector_index` are
    JSON texts, empty if nothing is said.
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
    schema_: Schema = NOTHING_DECLARED
    lexical: LexicalSettings = ENGLISH
    vector_index: VectorSettings = DEFAULT
    index_uid: str = ""
    index_number: int = 0

    @property
    def index(self) -> str:
        """Uid of the index that is meant, which is the collection's own for the first one."""
        return self.index_uid or self.uid

    @property
    def index_name(self) -> str:
        """What the index is called among shards: `~` is in no collection's name."""
        return f"{self.name}~{self.index_number}" if self.index_number else self.name


Change = Callable[[CollectionRecord], CollectionRecord]
"""Gives a record with other settings."""

_SETTINGS = ("search_defaults", "vector_index")


_MEANT = select(alias.c.uid).where(alias.c.name == bindparam("called")).scalar_subquery()
_NAMED = select(collection).where(
    or_(collection.c.name == bindparam("called"), collection.c.uid == _MEANT)
)


def find(
    connection: Connection, name: str, *, field: str = "collection", lock: bool = False
) -> CollectionRecord:
    """The collection of that name or alias; raises NotFound (COLLECTION_NOT_FOUND).

    With `lock`, nobody else changes it before this transaction ends.
    """
    chosen = _NAMED.with_for_update() if lock else _NAMED
    row = connection.execute(chosen, {"called": name}).first()
    if row is None:
        raise NotFound(
            "COLLECTION_NOT_FOUND",
            f"no collection is called {name!r}",
            field=field,
            remedy="create it, or list the ones there are",
        )
    return record_of(dict(row._mapping))


def page(connection: Connection, after: str, limit: int) -> list[CollectionRecord]:
    """Up to `limit` collections with names above `after`, by name."""
    chosen = select(collection).where(collection.c.name > after).order_by(collection.c.name)
    return [record_of(dict(row._mapping)) for row in connection.execute(chosen.limit(limit))]


def every(connection: Connection) -> list[CollectionRecord]:
    """All collections, by name."""
    chosen = select(collection).order_by(collection.c.name)
    return [record_of(dict(row._mapping)) for row in connection.execute(chosen)]


def add(connection: Connection, record: CollectionRecord) -> None:
    """Adds a collection with empty shards.

    Raises CollectionExists or AliasExists if the name is taken.
    """
    taken = select(collection.c.uid).where(collection.c.name == record.name)
    if connection.execute(taken).first() is not None:
        raise CollectionExists(
            f"{record.name!r} is there already",
            field="collection.name",
            remedy="choose another name, or delete that collection first",
        )
    if connection.execute(select(alias.c.uid).where(alias.c.name == record.name)).first():
        raise AliasExists(
            f"{record.name!r} is an alias",
            field="collection.name",
            remedy="choose another name, or delete that alias first",
        )
    connection.execute(insert(collection).values(values_of(record)))
    add_heads(connection, record)


def add_heads(connection: Connection, record: CollectionRecord) -> None:
    """Adds the rows of an index of which nothing is published."""
    for shard in range(record.shard_count):
        chain = first_chain(record.uid, shard)
        connection.execute(
            insert(shard_head).values(
                uid=record.index,
                feed=record.index_uid and record.uid,
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


def alter(connection: Connection, name: str, change: Change) -> CollectionRecord:
    """Changes the settings of a collection; returns it as it is then. Raises NotFound."""
    record = find(connection, name, field="collection.name", lock=True)
    changed = change(record)
    written = values_of(changed)
    connection.execute(
        update(collection)
        .where(collection.c.uid == record.uid)
        .values({setting: written[setting] for setting in _SETTINGS})
    )
    return changed


def indexes(connection: Connection, uid: str) -> list[str]:
    """Uids of all indexes of a collection, that of the feed first."""
    others = select(shard_head.c.uid).where(shard_head.c.feed == uid).distinct()
    return [uid, *connection.execute(others.order_by(shard_head.c.uid)).scalars()]


def remove(connection: Connection, name: str) -> list[str]:
    """Takes a collection's name away and marks the rest of each index for `purge`.

    Returns the uids of its indexes. Raises NotFound, CollectionHasAliases.
    """
    record = find(connection, name, field="name", lock=True)
    _check_no_aliases(connection, record)
    uids = indexes(connection, record.uid)
    connection.execute(delete(collection).where(collection.c.uid == record.uid))
    connection.execute(delete(migration).where(migration.c.uid == record.uid))
    connection.execute(delete(shard_head).where(shard_head.c.uid.in_(uids)))
    connection.execute(insert(removed), [{"uid": uid} for uid in uids])
    return uids


def _check_no_aliases(connection: Connection, record: CollectionRecord) -> None:
    of_it = select(alias.c.name).where(alias.c.uid == record.uid).order_by(alias.c.name)
    if second_names := connection.execute(of_it).scalars().all():
        raise CollectionHasAliases(
            f"{', '.join(second_names)} stand for {record.name!r}",
            field="name",
            remedy="move these aliases to another collection, or delete them, first",
        )


def unfinished_removals(connection: Connection) -> Sequence[str]:
    """Uids of collections that were removed but not cleared away."""
    return connection.execute(select(removed.c.uid)).scalars().all()


def purge(connection: Connection, uid: str) -> bool:
    """Clears away some rows of a removed collection; True once nothing is left."""
    for table in (change, document, request, suspect, task):
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(table.c.uid == uid).limit(PURGE_ROWS)
        if connection.execute(delete(table).where(key.in_(some))).rowcount:
            return False
    connection.execute(delete(removed).where(removed.c.uid == uid))
    return True


def record_of(columns: Mapping[str, Any]) -> CollectionRecord:
    """The record that a row of the table stands for."""
    text = columns["search_defaults"]
    wish = RankingWish.from_json(text) if text else OPEN
    lexical = LexicalSettings.from_json(columns["lexical"])
    schema = Schema.from_json(columns["schema_"]) if columns["schema_"] else NOTHING_DECLARED
    vectors = VectorSettings.from_json(columns["vector_index"])
    typed = {
        "search_defaults": wish,
        "lexical": lexical,
        "schema_": schema,
        "vector_index": vectors,
    }
    return CollectionRecord(**{**columns, **typed})


def values_of(record: CollectionRecord) -> dict[str, Any]:
    """The row that stands for a record."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return values | {
        "search_defaults": _text(record.search_defaults),
        "lexical": record.lexical.to_json(),
        "vector_index": "" if record.vector_index == DEFAULT else record.vector_index.to_json(),
        "schema_": "" if record.schema_ == NOTHING_DECLARED else record.schema_.to_json(),
    }


def _text(wish: RankingWish) -> str:
    return "" if wish == OPEN else wish.to_json()
