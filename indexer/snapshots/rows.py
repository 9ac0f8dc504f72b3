"""A collection's documents between the document store and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter

from sqlalchemy import Connection, delete, insert, select, update

from core.documents import shard_of
from indexer import catalogue
from indexer.bulk import insert_rows
from indexer.catalogue import CollectionRecord
from indexer.changes import UPSERT, Change, first_chain, next_chain
from indexer.snapshots.lines import Line
from indexer.tables import change, document, removed, shard_head

ROWS = 500
"""Rows of one transaction, so that other writes get their turn between."""

_change_values = attrgetter(*(each.name for each in fields(Change)))


def newest(connection: Connection, uid: str) -> Iterator[Line]:
    """The live documents as of one moment, in the feed's order, shard by shard."""
    joined = document.join(
        change,
        (change.c.uid == document.c.uid)
        & (change.c.shard == document.c.shard)
        & (change.c.sequence == document.c.sequence),
    )
    columns = [change.c[each.name] for each in fields(Line)]
    chosen = (
        select(*columns)
        .select_from(joined)
        .where(document.c.uid == uid, ~document.c.deleted)
        .order_by(document.c.shard, document.c.sequence)
        .execution_options(yield_per=ROWS)
    )
    with connection.execute(chosen) as rows:
        for row in rows:
            yield Line(*row)


@dataclass(slots=True)
class Feeds:
    """The feeds of a collection that is being restored: `extend`, then write what it returns."""

    uid: str
    shard_count: int
    heads: dict[int, tuple[int, str]] = field(default_factory=dict)

    def extend(self, lines: Iterable[Line]) -> list[tuple[int, Change]]:
        """The shards and changes that put these documents, with their versions and times."""
        changes = []
        for line in lines:
            shard = shard_of(line.id, self.shard_count)
            sequence, chain = self.heads.get(shard, (0, first_chain(self.uid, shard)))
            content = (line.title, line.text, line.attributes, line.update_micros)
            chain = next_chain(chain, id=line.id, version=line.version, op=UPSERT, content=content)
            self.heads[shard] = sequence + 1, chain
            changes.append(
                (shard, Change(sequence + 1, line.id, line.version, UPSERT, 0, *content, chain))
            )
        return changes


def begin(connection: Connection, uid: str) -> None:
    """Marks the rows that follow for removal: until `finish` nobody sees them."""
    connection.execute(insert(removed).values(uid=uid))


def put(connection: Connection, uid: str, changes: Iterable[tuple[int, Change]]) -> None:
    """Writes some rows of a collection that is being restored."""
    kept = list(changes)
    insert_rows(connection, change, [(uid, shard, *_change_values(each)) for shard, each in kept])
    pointers = [(uid, each.id, shard, each.sequence, each.version, False) for shard, each in kept]
    insert_rows(connection, document, pointers)


def finish(connection: Connection, record: CollectionRecord, feeds: Feeds) -> None:
    """Makes a restored collection visible, whole; raises CollectionExists or AliasExists."""
    catalogue.add(connection, record)
    for shard, (head, chain) in feeds.heads.items():
        connection.execute(
            update(shard_head)
            .where(shard_head.c.uid == record.uid, shard_head.c.shard == shard)
            .values(head=head, chain=chain, documents=head)
        )
    connection.execute(delete(removed).where(removed.c.uid == record.uid))
