"""A user's training pairs: JSON lines, each a query, what answers it, and what does not."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidInput

FORM = '{"query": ..., "positive": ..., "negatives": [...], "score": ..., "margin": ...}'
_FIELDS = frozenset({"query", "positive", "negatives", "score", "margin"})


@dataclass(frozen=True)
class Example:
    """One line. `scores` are of the positive, then of each negative; `margins` one per negative.

    Both may be empty. `place` is "FILE:LINE", for messages.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    place: str = ""


def read_examples(path: Path) -> list[Example]:
    """Every line of `path` (.jsonl or .jsonl.gz); raises InvalidInput naming line and remedy."""
    examples = [_example(line, f"{path}:{number}") for number, line in _lines(path)]
    if not examples:
        raise InvalidInput(
            "FIELD_REQUIRED", "holds no pair", field=str(path), remedy=f"write lines of {FORM}"
        )
    return examples


def split_examples(
    examples: Sequence[Example], held_out: float
) -> tuple[list[Example], list[Example]]:
    """(training, held out): a share of the queries by their SHA-256, so that reruns agree."""
    bound = int(held_out * 2**32)
    outside = [_hash(example.query) < bound for example in examples]
    pairs = list(zip(examples, outside, strict=True))
    return [one for one, out in pairs if not out], [one for one, out in pairs if out]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            "MALFORMED",
            f"cannot be read: {error}",
            field=str(path),
            remedy="give a UTF-8 file of JSON lines, plain or gzip",
        ) from error


def _example(line: str, place: str) -> Example:
    row = _row(line, place)
    negatives = row.get("negatives", [])
    if not isinstance(negatives, list):
        raise _malformed(place, "negatives is no list", "write a list of texts")
    return Example(
        query=_text(row.get("query"), "query", place),
        positive=_text(row.get("positive"), "positive", place),
        negatives=tuple(_text(text, "negatives", place) for text in negatives),
        scores=_numbers(row, "score", 1 + len(negatives), place),
        margins=_numbers(row, "margin", len(negatives), place),
        place=place,
    )


def _row(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _malformed(place, f"is no JSON: {error}", f"write {FORM} on one line") from error
    if not isinstance(row, dict):
        raise _malformed(place, "is no JSON object", f"write {FORM}")
    if unknown := sorted(set(row) - _FIELDS):
        raise _malformed(place, f"has the unknown field {unknown[0]!r}", f"write {FORM}")
    return row


def _text(value: object, name: str, place: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise InvalidInput(
        "FIELD_REQUIRED",
        f"{name} is no text",
        field=place,
        remedy="write a text that is not empty, or delete the line",
    )


def _numbers(row: Mapping[str, Any], name: str, most: int, place: str) -> tuple[float, ...]:
    """A number stands for the first alone."""
    value = row.get(name)
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    finite = all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
        for one in values
    )
    if not finite:
        raise _malformed(place, f"{name} is no finite number", "write a number or a list of them")
    if len(values) not in (1, most):
        wanted = f"one number, or {most} for the texts it is about"
        raise _malformed(place, f"{name} has {len(values)} numbers", f"write {wanted}")
    return tuple(float(one) for one in values)


def _malformed(place: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput("MALFORMED", message, field=place, remedy=remedy)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
