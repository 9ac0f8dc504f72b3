"""What is known of a collection's attributes: which were declared, which its documents have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from core import config
from core.documents import MAX_ATTRIBUTE_NAME_BYTES, AttributeValue, check_text
from core.errors import InvalidInput
from core.filters.tree import ID

STRING, NUMBER, BOOL, TIMESTAMP, STRINGS = "string", "number", "bool", "timestamp", "strings"
TYPES = (STRING, NUMBER, BOOL, TIMESTAMP, STRINGS)

MAX_DECLARED = 256
MAX_SEEN = 1024
"""So many attributes, counted by name and type, are remembered of the documents."""


@dataclass(frozen=True, slots=True, order=True)
class Attribute:
    """A name and one of TYPES."""

    name: str
    type: str


@dataclass(frozen=True)
class Schema:
    """`declared` attributes have one type; `seen` may name an attribute with several, ascending.

    A `closed` schema has no others than the declared. `complete` says whether `seen` names all that
    searchable documents have: it does not where they were indexed by an earlier version, or have
    more than MAX_SEEN.
    """

    declared: tuple[Attribute, ...] = ()
    closed: bool = False
    seen: tuple[Attribute, ...] = ()
    complete: bool = False

    @cached_property
    def types(self) -> Mapping[str, frozenset[str]]:
        """The types that each known attribute may have."""
        found: dict[str, frozenset[str]] = {}
        for each in self.seen:
            found[each.name] = found.get(each.name, frozenset()) | {each.type}
        # What was declared holds for every document from the first on.
        return found | {each.name: frozenset({each.type}) for each in self.declared}

    def with_seen(self, more: Iterable[Attribute], *, complete: bool) -> Schema:
        """The schema once documents have these attributes too."""
        seen = sorted({*self.seen, *more})
        fits = len(seen) <= MAX_SEEN
        return replace(self, seen=tuple(seen[:MAX_SEEN]), complete=complete and fits)

    def check(self, attributes: Mapping[str, AttributeValue], path: str) -> None:
        """Raises InvalidInput (ATTRIBUTE_MISMATCH) unless a document may have these attributes."""
        if not self.declared and not self.closed:
            return
        declared = {each.name: each.type for each in self.declared}
        for name, value in attributes.items():
            wanted, given = declared.get(name), type_of(value)
            if wanted is None and self.closed:
                raise _mismatch(
                    "is not declared, and the schema of the collection is closed",
                    f"leave it out; declared are {', '.join(declared) or 'none'}",
                    f"{path}[{name!r}]",
                )
            if wanted is not None and wanted != given:
                raise _mismatch(
                    f"is of type {given}, declared is {wanted}",
                    f"send a {wanted}",
                    f"{path}[{name!r}]",
                )

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The inverse of `to_json`."""
        return config.build(cls, json.loads(text), "schema")


UNKNOWN = Schema()
"""Nothing is known: an index of an earlier version."""

NOTHING_DECLARED = Schema(complete=True)
"""A new collection whose documents may have any attributes."""


def declare(attributes: Sequence[Attribute], closed: bool, path: str) -> Schema:
    """The schema of a new collection; raises InvalidInput naming the attribute at fault."""
    if len(attributes) > MAX_DECLARED:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"has {len(attributes)} attributes, the limit is {MAX_DECLARED}",
            field=path,
        )
    seen: set[str] = set()
    for number, each in enumerate(attributes):
        where = f"{path}[{number}]"
        if not each.name:
            raise InvalidInput("FIELD_REQUIRED", "is empty", field=f"{where}.name")
        check_text(each.name, MAX_ATTRIBUTE_NAME_BYTES, f"{where}.name")
        if each.name == ID or each.name in seen:
            why = "stands for the document's id" if each.name == ID else "is declared twice"
            raise InvalidInput("MALFORMED", f"{each.name!r} {why}", field=f"{where}.name")
        if each.type not in TYPES:
            raise InvalidInput(
                "FIELD_REQUIRED",
                "is not given",
                field=f"{where}.type",
                remedy=f"give one of {', '.join(TYPES)}",
            )
        seen.add(each.name)
    return Schema(tuple(attributes), closed, complete=True)


def type_of(value: AttributeValue) -> str:
    """The name of a value's type."""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, str):
        return STRING
    if isinstance(value, datetime):
        return TIMESTAMP
    return STRINGS if isinstance(value, tuple) else NUMBER


def attributes_of(documents: Iterable[Mapping[str, AttributeValue]]) -> set[Attribute]:
    """Which attributes these documents have."""
    return {
        Attribute(name, type_of(value))
        for attributes in documents
        for name, value in attributes.items()
    }


def merged(schemas: Sequence[Schema]) -> Schema:
    """What is known of a collection from its shards."""
    if not schemas:
        return UNKNOWN
    first, *others = schemas
    seen: Iterable[Any] = (each for schema in others for each in schema.seen)
    return first.with_seen(seen, complete=all(schema.complete for schema in schemas))


def _mismatch(problem: str, remedy: str, field: str) -> InvalidInput:
    return InvalidInput("ATTRIBUTE_MISMATCH", problem, field=field, remedy=remedy)
