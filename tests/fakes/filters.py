"""Random documents and filters, and what each filter means, said again in plain Python.

A filter is made as nested tuples, written out as text for the software, and decided here by looking
at one document after the other: nothing of `core.filters` is used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from core.documents import AttributeValue

Filter = tuple[Any, ...]
Attributes = Mapping[str, AttributeValue]

START = datetime(2020, 1, 1, tzinfo=UTC)
LANGUAGES = ("en", "de", "fr", "en-GB", "zh", "")
TAGS = ("nlp", "ir", "nlp/search", "ml", 'a "quoted" one', "50 % off", "*starred*")
NAMES = ("lang", "year", "draft", "created", "tags", "source.name", "odd name", "mixed")
ORDER = ("<", "<=", ">", ">=")


def random_attributes(chance: random.Random) -> Attributes:
    """Attributes as documents have them: some missing, one with values of several types."""
    moment = START + timedelta(seconds=chance.randrange(60), microseconds=chance.randrange(3))
    found: dict[str, AttributeValue] = {
        "lang": chance.choice(LANGUAGES),
        "year": float(chance.randrange(2015, 2026)) + chance.choice((0.0, 0.5)),
        "draft": chance.random() < 0.5,
        "created": moment,
        "tags": tuple(chance.choices(TAGS, k=chance.randrange(4))),
        "source.name": f"file-{chance.randrange(20)}.{chance.choice(('java', 'py'))}",
        "odd name": chance.choice(("ä\nb", "back\\slash", "'", "AND")),
        "mixed": chance.choice((1.0, "1", True, ("1", "2"), START, "one")),
    }
    return {name: value for name, value in found.items() if chance.random() < 0.8}


def random_filter(chance: random.Random, depth: int = 3) -> Filter:
    """A filter over these attributes."""
    kind = chance.choice(("and", "or", "not", "leaf", "leaf")) if depth else "leaf"
    if kind == "not":
        return ("not", random_filter(chance, depth - 1))
    if kind in ("and", "or"):
        several = range(chance.randrange(2, 4))
        return (kind, *(random_filter(chance, depth - 1) for _ in several))
    return _leaf(chance)


def _leaf(chance: random.Random) -> Filter:
    name = chance.choice((*NAMES, "id"))
    if chance.random() < 0.1:
        return ("present", name)
    if name == "draft":
        operator, value = chance.choice((("flag", None), ("=", True), ("!=", False), (":", True)))
        return ("flag", name) if operator == "flag" else ("compare", name, operator, value, False)
    if name == "tags":
        return ("compare", name, ":", chance.choice((*TAGS, ("nlp", "*"), ("", "*", "r"))), True)
    operator = chance.choice((*ORDER, "=", "!=", ":"))
    return ("compare", name, operator, *_value(chance, name, operator))


def _value(chance: random.Random, name: str, operator: str) -> tuple[Any, bool]:
    """A value that fits the attribute, and whether it is written in quotes."""
    wild = operator in ("=", "!=", ":") and chance.random() < 0.5
    match name:
        case "lang":
            return (("en", "*") if wild else chance.choice(LANGUAGES)), True
        case "year":
            return chance.randrange(2014, 2027) + chance.choice((0, 0.5)), False
        case "created":
            moment = START + timedelta(seconds=chance.randrange(60))
            return moment, chance.random() < 0.5
        case "source.name":
            patterns = ("", "*", ".py"), ("file-1", "*", "a"), ("", "*", "1", "*", "")
            return (chance.choice(patterns) if wild else f"file-{chance.randrange(20)}.py"), True
        case "odd name":
            return chance.choice(("ä\nb", "back\\slash", "'", "AND", ("", "*", "b"))), True
        case "id":
            return (("d1", "*") if wild else f"d{chance.randrange(400):03}"), True
        case _:
            return chance.choice(((1, False), ("1", True), (True, False), (START, True)))


def written(tree: Filter, within: str = "") -> str:
    """The filter as a text, with no more parentheses than it needs: OR binds before AND."""
    match tree:
        case ("and" | "or" as kind, *parts):
            text = f" {kind.upper()} ".join(written(part, kind) for part in parts)
            # A part of NOT, and an AND within an OR, would otherwise be read as another filter.
            return f"({text})" if within == "not" or (within, kind) == ("or", "and") else text
        case ("not", part):
            return f"NOT {written(part, 'not')}" if part[0] != "not" else f"NOT ({written(part)})"
        case ("present", name):
            return f"{_name(name)}:*"
        case ("flag", name):
            return _name(name)
    _, name, operator, value, in_quotes = tree
    text = _literal(value)
    return f"{_name(name)} {operator} {_quoted(text) if in_quotes else text}"


def _name(name: str) -> str:
    return name if " " not in name else f"'{name}'"


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "".join(piece if piece == "*" else _escaped(piece) for piece in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(timezone(timedelta(hours=-3))).isoformat()
    return _escaped(value) if isinstance(value, str) else repr(value)


def _escaped(text: str) -> str:
    return re.sub(r'["\\*]', lambda found: "\\" + found.group(), text)


def _quoted(text: str) -> str:
    return f'"{text}"'


def holds(tree: Filter, document_id: str, attributes: Attributes) -> bool:
    """Whether one document matches."""
    match tree:
        case ("and", *parts):
            return all(holds(part, document_id, attributes) for part in parts)
        case ("or", *parts):
            return any(holds(part, document_id, attributes) for part in parts)
        case ("not", part):
            return not holds(part, document_id, attributes)
    value = document_id if tree[1] == "id" else attributes.get(tree[1])
    match tree:
        case ("present", _):
            return value is not None and value != ()
        case ("flag", _):
            return value is True
    _, _, operator, asked, in_quotes = tree
    if operator == "!=":
        return not _compares(value, "=", asked, in_quotes)
    return _compares(value, operator, asked, in_quotes)


def _compares(value: AttributeValue | None, operator: str, asked: Any, in_quotes: bool) -> bool:
    if isinstance(value, tuple):
        return operator == ":" and any(_compares(one, "=", asked, in_quotes) for one in value)
    if isinstance(value, bool):
        return operator in ("=", ":") and not in_quotes and value is asked
    if isinstance(value, datetime):
        return isinstance(asked, datetime) and _in_order(value, operator, asked)
    if isinstance(value, float):
        is_number = not in_quotes and isinstance(asked, int | float) and not isinstance(asked, bool)
        return is_number and _in_order(value, operator, asked)
    if value is None:
        return False
    if isinstance(asked, tuple) and operator in ORDER:
        asked = "".join(asked)  # a star has no meaning in an order
    if isinstance(asked, tuple):
        pattern = "".join(".*" if piece == "*" else re.escape(piece) for piece in asked)
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    return _in_order(value, operator, asked if isinstance(asked, str) else _literal(asked))


def _in_order(value: Any, operator: str, asked: Any) -> bool:
    if operator in ("=", ":"):
        return bool(value == asked)
    if operator in ("<", "<="):
        return bool(value < asked or (operator == "<=" and value == asked))
    return bool(value > asked or (operator == ">=" and value == asked))
