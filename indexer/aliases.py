"""Second names of collections in the document store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from core.errors import AliasExists, CollectionExists, NotFound
from indexer.clock import now_micros
from indexer.tables import alias, collection


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name and the collection that it stands for; times in microseconds since 1970."""

    name: str
    collection: str
    create_micros: int
    update_micros: int


def find(connection: Connection, name: str, *, field: str = "name") -> Alias:
    """The alias of that name; raises NotFound (ALIAS_NOT_FOUND)."""
    row = connection.execute(_CHOSEN.where(alias.c.name == name)).first()
    if row is None:
        raise NotFound(
            "ALIAS_NOT_FOUND",
            f"no alias is called {name!r}",
            field=field,
            remedy="create it, or list the ones there are",
        )
    return Alias(*row)


def page(connection: Connection, after: str, limit: int) -> list[Alias]:
    """Up to `limit` aliases with names above `after`, by name."""
    chosen = _CHOSEN.where(alias.c.name > after).order_by(alias.c.name)
    return [Alias(*row) for row in connection.execute(chosen.limit(limit))]


def add(connection: Connection, name: str, target: str) -> Alias:
    """Lets a new name stand for a collection.

    Raises AliasExists or CollectionExists if the name is taken, NotFound (COLLECTION_NOT_FOUND).
    """
    if connection.execute(select(alias.c.uid).where(alias.c.name == name)).first() is not None:
        raise AliasExists(
            f"{name!r} is there already",
            field="alias.name",
            remedy="choose another name, or move that alias with UpdateAlias",
        )
    if _uid(connection, name) is not None:
        raise CollectionExists(
            f"{name!r} is the name of a collection",
            field="alias.name",
            remedy="choose another name, or delete that collection first",
        )
    now = now_micros()
    values = {"name": name, "uid": _target(connection, target)}
    connection.execute(insert(alias).values(**values, create_micros=now, update_micros=now))
    return find(connection, name)


def move(connection: Connection, name: str, target: str) -> Alias:
    """Lets an alias stand for another collection; raises NotFound (of either)."""
    find(connection, name, field="alias.name")
    values = {"uid": _target(connection, target), "update_micros": now_micros()}
    connection.execute(update(alias).where(alias.c.name == name).values(values))
    return find(connection, name)


def remove(connection: Connection, name: str) -> None:
    """Takes a second name away; raises NotFound (ALIAS_NOT_FOUND)."""
    find(connection, name)
    connection.execute(delete(alias).where(alias.c.name == name))


def of(connection: Connection, uids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The aliases of each of these collections that has some, ascending."""
    found: dict[str, list[str]] = {}
    chosen = select(alias.c.uid, alias.c.name).where(alias.c.uid.in_(uids))
    for uid, name in connection.execute(chosen.order_by(alias.c.name)):
        found.setdefault(uid, []).append(name)
    return found


def _uid(connection: Connection, name: str) -> str | None:
    chosen = select(collection.c.uid).where(collection.c.name == name)
    return connection.execute(chosen).scalar_one_or_none()


def _target(connection: Connection, name: str) -> str:
    uid = _uid(connection, name)
    if uid is None:
        raise NotFound(
            "COLLECTION_NOT_FOUND",
            f"no collection is called {name!r}",
            field="alias.collection",
            remedy="name an existing collection; an alias cannot stand for an alias",
        )
    return uid


_CHOSEN: Select[Any] = select(
    alias.c.name, collection.c.name, alias.c.create_micros, alias.c.update_micros
).join_from(alias, collection, alias.c.uid == collection.c.uid)
