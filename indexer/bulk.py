"""Many rows at a time, the fastest way of each database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Select, Table

PART_ROWS = 32


def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[tuple[Any, ...]],
    *,
    replacing: tuple[str, ...] = (),
) -> None:
    """Adds rows, each with the values of all columns in their order.

    Where a row with that primary key is there, its columns `replacing` are replaced; without any,
    that is an error of the database.
    """
    if connection.dialect.name == "postgresql":
        names = [column.name for column in table.columns]
        # One message and one plan, however many rows; the driver's arrays take three times as long.
        records = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
        statement = _of_records(table, replacing, connection.dialect)
        connection.exec_driver_sql(statement, (records,))
    else:
        connection.exec_driver_sql(_of_values(table, replacing), [*rows])


def rows_among(
    connection: Connection, table: Table, columns: Sequence[str], uid: str, ids: Sequence[str]
) -> Sequence[Sequence[Any]]:
    """The values of some columns in the rows of a collection that have one of these ids."""
    # One value, however many ids: drivers and SQLAlchemy take long over many.
    array = json.dumps(ids)
    if connection.dialect.name == "postgresql":
        # An array made first is looked up in the index; a join reads the whole table until that has
        # been analysed.
        among = "uid = %s AND id = ANY (ARRAY (SELECT json_array_elements_text(%s::json)))"
    else:
        among = "uid = ? AND id IN (SELECT value FROM json_each(?))"
    statement = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {among}"
    return connection.exec_driver_sql(statement, (uid, array)).all()


def in_parts(chosen: Select[Any]) -> Select[Any]:
    """The same rows, fetched some at a time: who stops early has not held them all in memory."""
    return chosen.execution_options(stream_results=True, max_row_buffer=PART_ROWS)


@cache
def _of_records(table: Table, replacing: tuple[str, ...], dialect: Dialect) -> str:
    typed = ", ".join(f"{c.name} {c.type.compile(dialect=dialect)}" for c in table.columns)
    source = f"json_to_recordset(%s::json) AS given ({typed})"
    return f"{_into(table)} SELECT * FROM {source}{_on_conflict(table, replacing)}"


@cache
def _of_values(table: Table, replacing: tuple[str, ...]) -> str:
    places = ", ".join("?" for _ in table.columns)
    return f"{_into(table)} VALUES ({places}){_on_conflict(table, replacing)}"


def _into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(column.name for column in table.columns)})"


def _on_conflict(table: Table, replacing: tuple[str, ...]) -> str:
    if not replacing:
        return ""
    key = ", ".join(column.name for column in table.primary_key.columns)
    new = ", ".join(f"{name} = excluded.{name}" for name in replacing)
    return f" ON CONFLICT ({key}) DO UPDATE SET {new}"
