"""What operators asked to be done to the index of a collection, in the document store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from indexer.catalogue import CollectionRecord
from indexer.clock import now_micros
from indexer.tables import task

REBUILD = "rebuild"
COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Task:
    """One shard's part; `end_micros` is 0 until it is done. Times are microseconds since 1970."""

    kind: str
    shard: int
    create_micros: int
    end_micros: int


def ask(connection: Connection, record: CollectionRecord, kind: str) -> list[Task]:
    """Asks for something of every shard; what is under way already goes on. Returns these tasks."""
    of_it = (task.c.uid == record.index, task.c.kind == kind)
    if not any(not each.end_micros for each in every(connection, record) if each.kind == kind):
        connection.execute(delete(task).where(*of_it))
        now = now_micros()
        rows = [
            {"uid": record.index, "kind": kind, "shard": n, "create_micros": now, "end_micros": 0}
            for n in range(record.shard_count)
        ]
        connection.execute(insert(task), rows)
    return [each for each in every(connection, record) if each.kind == kind]


def every(connection: Connection, record: CollectionRecord) -> list[Task]:
    """The last task of each kind and shard, in this order."""
    chosen = select(task.c.kind, task.c.shard, task.c.create_micros, task.c.end_micros)
    ordered = chosen.where(task.c.uid == record.index).order_by(task.c.kind, task.c.shard)
    return [Task(*row) for row in connection.execute(ordered)]


def unfinished(connection: Connection, uid: str) -> list[tuple[str, int]]:
    """Kinds and shards of an index that are still to be done, in the order to do them."""
    chosen = select(task.c.kind, task.c.shard).where(task.c.uid == uid, task.c.end_micros == 0)
    ordered = chosen.order_by(task.c.create_micros, task.c.kind, task.c.shard)
    return [(row.kind, row.shard) for row in connection.execute(ordered)]


def end(connection: Connection, uid: str, kind: str, shard: int) -> None:
    """Notes that a task is done."""
    of_it = (task.c.uid == uid, task.c.kind == kind, task.c.shard == shard)
    connection.execute(update(task).where(*of_it).values(end_micros=now_micros()))
