"""Operators in a query, for those who ask for them: "phrase", +required, -excluded.

Nothing is a syntax error. What does not make sense as an operator is read as it stands, as words:
a quote that is never closed, a sign before a blank, exclusions with nothing to look for. A
backslash before a quote, a sign or a backslash takes its meaning away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A sign counts where a word begins; a quote also after a sign, and only if it is closed before no
# letter. A word goes on to the next blank.
_PART = re.compile(
    r"""
    (?P<blank>\s+)
    | (?P<sign>[+-])? "(?P<phrase>(?:\\.|[^"\\])*)" (?!\w)
    | (?P<wordsign>[+-]) (?P<signed>[^\s+"-](?:\\.|\S)*)
    | (?P<plain>(?:\\.|\S)+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r'\\(["\\+-])')


@dataclass(frozen=True, slots=True)
class Constraint:
    """What documents must hold and must not, each a word, or words next to each other."""

    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Understood:
    """What was made of a query: `text` is what is looked for, without operators."""

    text: str
    constraint: Constraint | None = None


def read(query: str) -> Understood:
    """Reads a query with operators; one without any is given back as it is."""
    kept: list[str] = []
    required: list[str] = []
    excluded: list[str] = []
    for part in _PART.finditer(query):
        sign = part["sign"] or part["wordsign"]
        asked = part["phrase"] if part["phrase"] is not None else part["signed"]
        if asked is None or not any(map(str.isalnum, asked)):
            kept.append(_ESCAPED.sub(r"\1", part.group()))
            continue
        words = _ESCAPED.sub(r"\1", asked)
        if sign == "-":
            excluded.append(words)
            continue
        required.append(words)
        kept.append(words)
    text = "".join(kept).strip()
    if not (required or excluded) or not any(map(str.isalnum, text)):
        return Understood(query)
    return Understood(text, Constraint(_distinct(required), _distinct(excluded)))


def _distinct(parts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parts))
