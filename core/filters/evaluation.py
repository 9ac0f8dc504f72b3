"""A filter over the columns of one segment: one truth value per document, without a loop."""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import reduce
from typing import Any as Whatever

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from core.filters.columns import AttributeColumns, Column
from core.filters.literal import Literal
from core.filters.schema import BOOL, NUMBER, STRING, STRINGS, TIMESTAMP
from core.filters.tree import ID, All, Any, Comparison, Flag, Node, Not, Presence
from core.masks import Truth

_COMPARE: dict[str, Callable[[Whatever, Whatever], Whatever]] = {
    "=": operator.eq,
    ":": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARE_IDS = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}


def matching(node: Node, columns: AttributeColumns, ids: pa.Array) -> Truth:
    """Which documents match, bool [documents]; `ids` are theirs, large strings."""
    match node:
        case All(parts):
            return reduce(np.logical_and, (matching(part, columns, ids) for part in parts))
        case Any(parts):
            return reduce(np.logical_or, (matching(part, columns, ids) for part in parts))
        case Not(part):
            return ~matching(part, columns, ids)
    if node.name == ID:
        return _of_ids(node, ids)
    truth = np.zeros(columns.documents, np.bool_)
    for type_, column in columns.of_name(node.name):
        _mark(truth, column, _hits(node, type_, column), several=type_ == STRINGS)
    return truth


def _mark(truth: Truth, column: Column, hits: Truth, *, several: bool) -> None:
    """Makes the documents of the values that hit true."""
    if not several and len(column.rows) == len(truth):
        truth |= hits
    else:
        truth[column.rows[np.flatnonzero(hits)]] = True


def _hits(node: Comparison | Presence | Flag, type_: str, column: Column) -> Truth:
    """Which values of a column satisfy a restriction."""
    everything = np.ones(len(column.rows), np.bool_)
    if isinstance(node, Presence):
        return everything
    if isinstance(node, Flag):
        return _flags(column) if type_ == BOOL else ~everything
    literal, wanted = node.literal, node.operator
    if type_ == STRING or (type_ == STRINGS and wanted == ":"):
        return _of_words(column.values, column.words, wanted, literal)
    if type_ == BOOL and wanted not in ("=", ":"):
        return ~everything
    value = {NUMBER: literal.number, TIMESTAMP: literal.microseconds, BOOL: literal.truth}.get(
        type_
    )
    if value is None:
        return ~everything
    hits: Truth = _COMPARE[wanted](column.values, value)
    return hits


def _flags(column: Column) -> Truth:
    flags: Truth = column.values
    return flags


def _of_words(codes: NDArray[np.uint32], words: pa.Array, wanted: str, literal: Literal) -> Truth:
    if wanted in ("=", ":") and len(literal.pieces) > 1:
        fitting: Truth = like(words, literal)[codes]
        return fitting
    ordered = _Ordered(words)
    low, high = bisect_left(ordered, literal.text), bisect_right(ordered, literal.text)
    ranges = {"<": (0, low), "<=": (0, high), ">": (high, len(words)), ">=": (low, len(words))}
    first, end = ranges.get(wanted, (low, high))
    within: Truth = codes == first if end == first + 1 else (codes >= first) & (codes < end)
    return within


def _of_ids(node: Comparison | Presence | Flag, ids: pa.Array) -> Truth:
    if isinstance(node, Flag):
        return np.zeros(len(ids), np.bool_)
    if isinstance(node, Presence):
        return np.ones(len(ids), np.bool_)
    literal = node.literal
    if node.operator not in _COMPARE_IDS and len(literal.pieces) > 1:
        return like(ids, literal)
    compare = _COMPARE_IDS.get(node.operator, pc.equal)
    return _truth(compare(ids, pa.scalar(literal.text, pa.large_string())))


def like(texts: pa.Array, literal: Literal) -> Truth:
    """Which texts are the literal's pieces with anything between them, by RE2: in linear time."""
    first, *between, last = literal.pieces
    if not between and not last:
        return _truth(pc.starts_with(texts, first))
    if not between and not first:
        return _truth(pc.ends_with(texts, last))
    pattern = ".*".join(map(re.escape, literal.pieces))
    return _truth(pc.match_substring_regex(texts, f"(?s)^{pattern}$"))


def _truth(found: pa.Array) -> Truth:
    truth: Truth = found.to_numpy(zero_copy_only=False).astype(np.bool_, copy=False)
    return truth


class _Ordered:
    """Ascending words, read one by one; Python compares texts as UTF-8 bytes compare."""

    def __init__(self, words: pa.Array) -> None:
        self._words = words

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, place: int) -> str:
        return str(self._words[place])
