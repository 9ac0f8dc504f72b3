"""Migrations in the document store: everything that must survive a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from core.errors import MigrationActive, MigrationNotReady, NotFound
from indexer import catalogue
from indexer.catalogue import CollectionRecord
from indexer.clock import now_micros
from indexer.migration.records import (
    Migration,
    Plan,
    ShadowQuery,
    index_values,
    migration_of,
    with_index,
)
from indexer.migration.states import Event, State, after
from indexer.tables import collection, migration, shard_head, suspect


class Lags(MigrationNotReady):
    """The index that is to answer covers less than the one that does."""


def begin(
    connection: Connection, record: CollectionRecord, plan: Plan, queries: Sequence[ShadowQuery]
) -> Migration:
    """Adds a migration of `record`'s collection to the index that it describes but for its number.

    Raises NotFound (COLLECTION_NOT_FOUND), MigrationActive.
    """
    present = catalogue.find(connection, record.name)
    _check_none_active(connection, present)
    newest = select(func.coalesce(func.max(migration.c.number), 0))
    numbered = newest.where(migration.c.uid == present.uid)
    number = int(connection.execute(numbered).scalar_one()) + 1
    target = index_values(replace(record, index_number=number))
    connection.execute(
        insert(migration).values(
            uid=present.uid,
            number=number,
            state=State.BUILDING.value,
            source=json.dumps(index_values(present)),
            target=json.dumps(target),
            plan=json.dumps(asdict(plan)),
            queries=json.dumps([asdict(query) for query in queries], ensure_ascii=False),
            report="",
            reason="",
            create_micros=now_micros(),
            switch_micros=0,
            end_micros=0,
        )
    )
    catalogue.add_heads(connection, with_index(present, target))
    return find(connection, record.name)


def _check_none_active(connection: Connection, record: CollectionRecord) -> None:
    over = [state.value for state in State if state.is_over]
    active = select(migration.c.state).where(
        migration.c.uid == record.uid, migration.c.state.not_in(over)
    )
    if (state := connection.execute(active).scalar()) is not None:
        raise MigrationActive(
            f"{record.name!r} has a migration that is {state}",
            field="collection",
            remedy="finish it or roll it back first",
        )


def find(connection: Connection, name: str) -> Migration:
    """The newest migration of a collection.

    Raises NotFound (COLLECTION_NOT_FOUND, MIGRATION_NOT_FOUND).
    """
    record = catalogue.find(connection, name)
    chosen = select(migration).where(migration.c.uid == record.uid)
    row = connection.execute(chosen.order_by(migration.c.number.desc()).limit(1)).first()
    if row is None:
        raise NotFound(
            "MIGRATION_NOT_FOUND",
            f"{record.name!r} never had a migration",
            field="collection",
            remedy="begin one with MigrateCollection",
        )
    return migration_of(row, record)


def unreleased(connection: Connection) -> list[Migration]:
    """Every migration of which two indexes are there, of all collections."""
    records = {record.uid: record for record in catalogue.every(connection)}
    chosen = select(migration).where(~migration.c.released)
    return [migration_of(row, records[row.uid]) for row in connection.execute(chosen).all()]


def idle_indexes(connection: Connection) -> dict[str, CollectionRecord]:
    """Collections with a migration that is not over, by uid, with the index that is idle."""
    found = [each for each in unreleased(connection) if not each.state.is_over]
    return {each.live.uid: each.idle_record for each in found}


def move(connection: Connection, known: Migration, event: Event, **values: Any) -> Migration:
    """Goes on from the state that the row has now, and sets columns; raises MigrationNotReady.

    When the other index is to answer, the collection says so in the same transaction.
    """
    present = again(connection, known)
    state = after(present.state, event)
    if state is State.SWITCHED:
        values["switch_micros"] = now_micros()
    if state.is_over:
        values["end_micros"] = now_micros()
    connection.execute(_row(present).values(state=state.value, **values))
    if state.target_answers != present.state.target_answers:
        answering = present.target if state.target_answers else present.source
        chosen = update(collection).where(collection.c.uid == present.live.uid)
        connection.execute(chosen.values(**answering))
    return again(connection, present)


def hand_over(connection: Connection, known: Migration, event: Event) -> Migration:
    """As `move`; raises Lags if the index that is to answer covers less than the one that does."""
    present = again(connection, known)
    covered = {
        index: {
            row.shard: row.covers_sequence
            for row in connection.execute(
                select(shard_head).where(shard_head.c.uid == index).with_for_update()
            )
        }
        for index in (present.live.index, present.idle_record.index)
    }
    idle = covered[present.idle_record.index]
    if any(idle[shard] < reached for shard, reached in covered[present.live.index].items()):
        raise Lags(
            f"{present.idle_record.index_name} has not caught up with {present.live.index_name}",
            field="migration",
            remedy="see its shards, try again, or use force",
        )
    return move(connection, present, event, reason="")


def again(connection: Connection, known: Migration) -> Migration:
    """The same migration as it is now; raises NotFound if it is gone with its collection."""
    record = catalogue.find(connection, known.live.name)
    chosen = select(migration).where(
        migration.c.uid == known.live.uid, migration.c.number == known.number
    )
    row = connection.execute(chosen).first()
    if row is None or record.uid != known.live.uid:
        raise NotFound("MIGRATION_NOT_FOUND", "is gone with its collection", field="collection")
    return migration_of(row, record)


def note(connection: Connection, known: Migration, reason: str) -> None:
    """Says in words why it does not go on."""
    connection.execute(_row(known).values(reason=reason))


def release(connection: Connection, known: Migration) -> None:
    """Forgets the index that lost, whose files are gone."""
    lost = known.idle_record
    if lost.index_uid:
        connection.execute(delete(shard_head).where(shard_head.c.uid == lost.index))
    connection.execute(delete(suspect).where(suspect.c.uid == lost.index))
    connection.execute(_row(known).values(released=True))


def _row(known: Migration) -> Any:
    return update(migration).where(
        migration.c.uid == known.live.uid, migration.c.number == known.number
    )
