"""Ranked documents into groups of those with the same value of an attribute: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.documents import AttributeValue
from gateway.fusion import Blended

GroupValue = AttributeValue | None
"""What a group has in common: no list, and None for the documents without the attribute."""

Memberships = Mapping[str, Sequence[GroupValue]]
"""The groups of each document, by its id."""


@dataclass(frozen=True, slots=True)
class Group:
    """The documents with one value, best first."""

    value: GroupValue
    members: list[Blended] = field(default_factory=list)


def groups_of(value: GroupValue) -> Sequence[GroupValue]:
    """The groups that a document with this value is in: one for each string of a list."""
    if not isinstance(value, tuple):
        return (value,)
    return tuple(dict.fromkeys(value)) or (None,)


def form_groups(ranking: Sequence[Blended], memberships: Memberships) -> list[Group]:
    """Every group of a ranking, by its best member; members keep the order of the ranking."""
    groups: dict[tuple[type, GroupValue], Group] = {}
    for ranked in ranking:
        for value in memberships[ranked.fused.id]:
            # True, 1 and 1.0 are equal to Python.
            group = groups.setdefault((type(value), value), Group(value))
            group.members.append(ranked)
    return list(groups.values())


def count_full(memberships: Memberships, size: int) -> int:
    """How many groups have at least `size` members."""
    counts: dict[tuple[type, GroupValue], int] = {}
    for values in memberships.values():
        for value in values:
            key = (type(value), value)
            counts[key] = counts.get(key, 0) + 1
    return sum(count >= size for count in counts.values())
