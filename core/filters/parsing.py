"""From a filter's text to its tree: AIP-160 without functions, by a grammar that Lark compiles.

OR binds more strongly than AND, and a space alone is AND too. Names of attributes are words joined
by dots, or anything in quotes; values are words, numbers and moments, or anything in quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any as Whatever
from typing import NamedTuple, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from core.documents import check_text
from core.errors import InvalidInput
from core.filters.literal import bare, unquoted
from core.filters.tree import (
    KEYWORDS,
    NAME,
    All,
    Any,
    Comparison,
    Flag,
    Node,
    Not,
    Operator,
    Presence,
)

MAX_BYTES = 4096
MAX_CLAUSES = 64
MAX_NESTING = 8

FIELD = "filter"

_END = r"(?![\w.\-])"
_KEYWORD = f"(?:{'|'.join(KEYWORDS)}){_END}"
_GRAMMAR = rf"""
start: conjunction
conjunction: sequence (_AND sequence)*
sequence: disjunction+
disjunction: term (_OR term)*
?term: simple | (_NOT | _MINUS) simple -> negation
?simple: restriction | _OPEN conjunction _CLOSE -> group
restriction: name [OPERATOR value]
name: NAME | STRING
value: WORD | STRING

_AND.2: /AND{_END}/
_OR.2: /OR{_END}/
_NOT.2: /NOT{_END}/
_MINUS: "-"
_OPEN: "("
_CLOSE: ")"
OPERATOR: /[<>!]=|[<>=:]/
NAME: /(?!{_KEYWORD}){NAME}(?![\w.\-(])/
STRING: /"(?:[^"\\]|\\["'\\*])*"|'(?:[^'\\]|\\["'\\*])*'/
WORD: /\d{{4}}-\d\d-\d\d[Tt][^\s()"',\\]*|(?!{_KEYWORD})[^\s()<>=!:"',\\]+/
%ignore /\s+/
"""
_IN_WORDS = {
    "NAME": "an attribute",
    "WORD": "a value",
    "STRING": "",
    "OPERATOR": "an operator",
    "_AND": "AND",
    "_OR": "OR",
    "_NOT": "NOT",
    "_MINUS": "",
    "_OPEN": "(",
    "_CLOSE": ")",
    "$END": "the end",
}


def refused(position: int, problem: str, remedy: str) -> InvalidInput:
    """What is wrong with a filter at a character, counted from 1, and what to do about it."""
    where = f"at character {position}: " if position else ""
    return InvalidInput("INVALID_FILTER", where + problem, field=FIELD, remedy=remedy)


def parse(text: str) -> Node | None:
    """The tree of a filter, None for one that is empty or white space.

    Raises InvalidInput (INVALID_FILTER, TOO_LONG, NOT_UTF8) naming position, problem and remedy.
    """
    check_text(text, MAX_BYTES, FIELD)
    return _parsed(text) if text.strip() else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Node:
    try:
        part = cast(_Part, _PARSER.parse(text))
    except UnexpectedInput as error:
        raise _not_understood(text, error) from error
    if part.clauses > MAX_CLAUSES:
        raise refused(
            0, f"has {part.clauses} comparisons, the limit is {MAX_CLAUSES}", "ask for less at once"
        )
    return part.node


class _Part(NamedTuple):
    node: Node
    depth: int = 0
    clauses: int = 1


class _Builder(Transformer[Token, Whatever]):
    """Builds the tree from below, while the text is read: no recursion, however deep it is."""

    def start(self, parts: Sequence[_Part]) -> _Part:
        return parts[0]

    def conjunction(self, parts: Sequence[_Part]) -> _Part:
        return _joined(All, parts)

    def sequence(self, parts: Sequence[_Part]) -> _Part:
        return _joined(All, parts)

    def disjunction(self, parts: Sequence[_Part]) -> _Part:
        return _joined(Any, parts)

    def negation(self, parts: Sequence[_Part]) -> _Part:
        return parts[0]._replace(node=Not(parts[0].node))

    def group(self, parts: Sequence[_Part]) -> _Part:
        depth = parts[0].depth + 1
        if depth > MAX_NESTING:
            raise refused(
                0, f"has more than {MAX_NESTING} parentheses in each other", "write it flatter"
            )
        return parts[0]._replace(depth=depth)

    def name(self, tokens: Sequence[Token]) -> tuple[str, int]:
        token = tokens[0]
        text = str(token) if token.type == "NAME" else unquoted(token).text
        return text, (token.start_pos or 0) + 1

    def value(self, tokens: Sequence[Token]) -> Token:
        return tokens[0]

    @v_args(inline=True)
    def restriction(
        self, name: tuple[str, int], operator: Token | None, value: Token | None
    ) -> _Part:
        if operator is None or value is None:
            return _Part(Flag(*name))
        if operator == ":" and value == "*":
            return _Part(Presence(*name))
        literal = bare(value) if value.type == "WORD" else unquoted(value)
        text, position = name
        if operator == "!=":
            return _Part(Not(Comparison(text, "=", literal, position)))
        return _Part(Comparison(text, cast(Operator, str(operator)), literal, position))


def _joined(kind: type[All] | type[Any], parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    nodes: list[Node] = []
    for part in parts:
        nodes += part.node.parts if isinstance(part.node, kind) else [part.node]
    depth = max(part.depth for part in parts)
    return _Part(kind(tuple(nodes)), depth, sum(part.clauses for part in parts))


_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_Builder(), maybe_placeholders=True)


def _not_understood(text: str, error: UnexpectedInput) -> InvalidInput:
    if isinstance(error, UnexpectedCharacters):
        position, expected = error.pos_in_stream or 0, set(error.allowed or ())
        problem = f"{text[position : position + 12]!r} is not understood"
    elif isinstance(error, UnexpectedToken) and error.token.type != "$END":
        position, expected = error.token.start_pos or 0, set(error.expected)
        problem = f"{str(error.token)[:40]!r} cannot stand here"
    else:
        position = len(text)
        expected = set(error.expected) if isinstance(error, UnexpectedToken) else set()
        problem = "it ends too early"
    words = sorted(word for each in expected if (word := _IN_WORDS.get(each, "")))
    wanted = ", ".join(words) or "an attribute"
    remedy = f"expected {wanted}; put names and values with other signs in quotes"
    return refused(position + 1, problem, remedy)
