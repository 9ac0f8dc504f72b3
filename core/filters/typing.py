"""Whether a filter makes sense for a collection: are its attributes there, fit its values."""

from __future__ import annotations

import difflib

from core.errors import InvalidInput
from core.filters.literal import Literal
from core.filters.parsing import refused
from core.filters.schema import BOOL, NUMBER, STRING, STRINGS, TIMESTAMP, Schema
from core.filters.tree import ID, KEYWORDS, Comparison, Flag, Node, Restriction, restrictions, shown

_NEAR_NAMES = 3
_SHOWN_NAMES = 8
_EXAMPLES = {
    STRING: "compare it with a text",
    NUMBER: "compare it with a number without quotes, as in 42 or -1.5e3",
    BOOL: "compare it with = true or = false, or name it alone",
    TIMESTAMP: "compare it with a moment as in 2026-01-31T12:00:00Z",
    STRINGS: "ask for an element with `:`, or for any with `: *`",
}


def check(node: Node, schema: Schema, *, is_current: bool = True) -> None:
    """Raises InvalidInput (INVALID_FILTER) for the first attribute or value that makes no sense.

    An attribute that is not known is refused if the schema names all that there are: if it is
    complete and, as `is_current` says, no write that the search is to see is missing from it.
    """
    for each in restrictions(node):
        types = frozenset({STRING}) if each.name == ID else schema.types.get(each.name)
        if types is None:
            if schema.closed or (schema.complete and is_current):
                raise _unknown(each, schema)
            continue
        is_declared = schema.closed or any(a.name == each.name for a in schema.declared)
        is_all = is_declared or each.name == ID or (schema.complete and is_current)
        if is_all and not any(_fits(each, type_) for type_ in types):
            raise _misfit(each, types)


def _fits(restriction: Restriction, type_: str) -> bool:
    match restriction:
        case Comparison(_, operator, literal):
            return (operator == ":" or type_ != STRINGS) and _readable(literal, operator, type_)
        case Flag():
            return type_ == BOOL
        case _:
            return True


def _readable(literal: Literal, operator: str, type_: str) -> bool:
    if type_ == NUMBER:
        return literal.number is not None
    if type_ == TIMESTAMP:
        return literal.microseconds is not None
    return type_ != BOOL or (operator in ("=", ":") and literal.truth is not None)


def _unknown(restriction: Restriction, schema: Schema) -> InvalidInput:
    name, known = restriction.name, sorted({ID, *schema.types})
    problem = f"there is no attribute {shown(name)}"
    if name.upper() in KEYWORDS:
        remedy = f"write {name.upper()} in capital letters"
    elif near := difflib.get_close_matches(name, known, _NEAR_NAMES):
        remedy = f"did you mean {' or '.join(map(shown, near))}?"
    else:
        some = ", ".join(map(shown, known[:_SHOWN_NAMES]))
        more = len(known) - _SHOWN_NAMES
        remedy = f"known are {some}" + (f" and {more} more" if more > 0 else "")
    return refused(restriction.position, problem, remedy)


def _misfit(restriction: Restriction, types: frozenset[str]) -> InvalidInput:
    kinds = " or ".join(sorted(types))
    name = shown(restriction.name)
    if isinstance(restriction, Comparison):
        asked = f"`{restriction.operator}` cannot compare it with {restriction.literal}"
    else:
        asked = "alone it would have to be a bool"
    remedy = "; or ".join(_EXAMPLES[type_] for type_ in sorted(types))
    return refused(restriction.position, f"{name} is of type {kinds}: {asked}", remedy)
