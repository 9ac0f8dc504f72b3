"""A filter as a tree, and what it means for a document.

    All, Any, Not         every part, some part, not the part
    Comparison            the attribute has a value that compares so with the literal
    Presence              the attribute has a value; a list has one if it is not empty
    Flag                  the attribute is true

A document without the attribute, or with one of a type that the literal cannot be read as, makes a
Comparison false; `!=` is Not of `=` and so true for it, as AIP-160 has it ("true unless a equals
42"). A tree means the same whatever is known of the collection: every shard evaluates it alike.
`str` of a tree is the same filter in its shortest form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal as OneOf

from core.filters.literal import Literal, quoted

Operator = OneOf["=", "<", "<=", ">", ">=", ":"]

ID = "id"
"""The name that stands for the document's id instead of an attribute."""

KEYWORDS = ("AND", "OR", "NOT")
NAME = r"[^\W\d][\w\-]*(?:\.[\w\-]+)*"
_NAME = re.compile(NAME)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`name operator literal`; `:` asks a list for an element and is `=` for all else."""

    name: str
    operator: Operator
    literal: Literal
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{shown(self.name)} {self.operator} {self.literal}"


@dataclass(frozen=True, slots=True)
class Presence:
    """`name : *`."""

    name: str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{shown(self.name)} : *"


@dataclass(frozen=True, slots=True)
class Flag:
    """`name` alone."""

    name: str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return shown(self.name)


@dataclass(frozen=True, slots=True)
class Not:
    """`NOT part` or `-part`."""

    part: Node

    def __str__(self) -> str:
        if isinstance(self.part, Comparison) and self.part.operator == "=":
            return f"{shown(self.part.name)} != {self.part.literal}"
        return f"NOT ({self.part})" if isinstance(self.part, Not) else f"NOT {_within(self.part)}"


@dataclass(frozen=True, slots=True)
class All:
    """Parts with AND, or only a space, between them."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " AND ".join(map(_within, self.parts))


@dataclass(frozen=True, slots=True)
class Any:
    """Parts with OR between them, which binds more strongly than AND."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " OR ".join(map(_within, self.parts))


Restriction = Comparison | Presence | Flag
Node = Restriction | Not | All | Any


def restrictions(node: Node) -> Iterator[Restriction]:
    """What a filter asks of single attributes, from left to right."""
    match node:
        case All(parts) | Any(parts):
            for part in parts:
                yield from restrictions(part)
        case Not(part):
            yield from restrictions(part)
        case _:
            yield node


def conjuncts(node: Node) -> tuple[Node, ...]:
    """The parts that must all hold."""
    return node.parts if isinstance(node, All) else (node,)


def shown(name: str) -> str:
    """An attribute's name as it stands in a filter: in quotes unless it is plain."""
    return name if _NAME.fullmatch(name) and name not in KEYWORDS else quoted(name)


def _within(part: Node) -> str:
    return f"({part})" if isinstance(part, All | Any) else str(part)
