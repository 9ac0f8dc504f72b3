"""The attributes of a segment's documents as columns, and their file, attributes.arrow.

The file is an Arrow table with a row per attribute and type that occurs, ascending by `name` and
`type` (large_string). `rows` (list<uint32>) has the ascending rows of the documents that have it, a
row once per value for lists of strings. The values lie beside them in the list of their type:

    number      numbers  list<float64>
    timestamp   moments  list<int64>     microseconds since 1970
    bool        bits     list<uint8>     packed, little
    string      codes    list<uint32>    places in `words`, list<string>: distinct and ascending
    strings     codes    likewise, distinct per document; an empty list has none

What few documents have takes little room, and a column is read only where a filter names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from core.columns import read_table, write_table
from core.documents import AttributeValue
from core.filters.literal import microseconds
from core.filters.schema import BOOL, NUMBER, STRING, STRINGS, TIMESTAMP, TYPES, Attribute, type_of

ATTRIBUTES = "attributes.arrow"

Rows = NDArray[np.int64]
_LISTS = {"rows": pa.uint32(), "codes": pa.uint32(), "numbers": pa.float64(), "moments": pa.int64()}
_LISTS |= {"bits": pa.uint8(), "words": pa.large_string()}
SCHEMA = pa.schema(
    [("name", pa.large_string()), ("type", pa.large_string())]
    + [(name, pa.large_list(kind)) for name, kind in _LISTS.items()]
)
_VALUES = {NUMBER: "numbers", TIMESTAMP: "moments", BOOL: "bits", STRING: "codes", STRINGS: "codes"}
_DTYPES = {NUMBER: np.float64, TIMESTAMP: np.int64, BOOL: np.bool_, STRING: np.uint32}
# Not `pa.array`, at which PyArrow imports pandas wherever that is installed: half a second.
_NO_WORDS = pa.nulls(0, pa.large_string())


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """The values of one attribute of one type: ascending `rows` uint32 [n], `values` [n].

    Values are float64, int64 (microseconds), bool, or uint32 places in `words`.
    """

    rows: NDArray[np.uint32]
    values: NDArray[Any]
    words: pa.Array


class AttributeColumns:
    """All columns of a segment of `documents` rows, by attribute; immutable."""

    def __init__(self, columns: Mapping[Attribute, Column], documents: int) -> None:
        self._columns = {key: columns[key] for key in sorted(columns)}
        self.documents = documents

    @classmethod
    def of(cls, documents: Sequence[Mapping[str, AttributeValue]]) -> Self:
        """The columns of documents with these attributes."""
        found: dict[Attribute, tuple[list[int], list[Any]]] = {}
        for row, attributes in enumerate(documents):
            for name, value in attributes.items():
                rows, values = found.setdefault(Attribute(name, type_of(value)), ([], []))
                several = dict.fromkeys(value) if isinstance(value, tuple) else (value,)
                rows += [row] * len(several)
                values += several
        return cls({key: _column(key.type, *each) for key, each in found.items()}, len(documents))

    @classmethod
    def open(cls, path: Path, documents: int) -> Self:
        """Maps a verified file; raises ArrowFailure, OSError or ValueError if it does not fit."""
        table = read_table(path)
        if table.schema != SCHEMA:
            raise ValueError(f"{path.name} does not have this version's columns")
        columns = {}
        for number, (name, type_) in enumerate(_keys(table)):
            column = _read(table, number, type_)
            ordered = len(column.rows) < 2 or bool((column.rows[1:] >= column.rows[:-1]).all())
            fits = not len(column.rows) or int(column.rows[-1]) < documents
            if not (ordered and fits and len(column.rows) == len(column.values)):
                raise ValueError(f"{path.name} does not fit the segment's documents")
            columns[Attribute(name, type_)] = column
        return cls(columns, documents)

    @classmethod
    def joined(cls, parts: Sequence[tuple[AttributeColumns, Rows]], documents: int) -> Self:
        """The columns of a merged segment; each part comes with its rows' new rows, -1 for none."""
        keys = sorted({key for columns, _ in parts for key in columns._columns})
        moved = {
            key: [_moved(c._columns[key], place) for c, place in parts if key in c._columns]
            for key in keys
        }
        columns = {key: _together(each) for key, each in moved.items()}
        return cls({key: each for key, each in columns.items() if len(each.rows)}, documents)

    def write(self, path: Path) -> None:
        """Writes the file, unsynced."""
        rows = [_written(key, column) for key, column in self._columns.items()]
        arrays = [
            pa.array([row[field.name] for row in rows], field.type)
            if field.name in ("name", "type")
            else _list_array([row.get(field.name) for row in rows], field.type)
            for field in SCHEMA
        ]
        write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), path)

    def attributes(self) -> list[Attribute]:
        """Which there are, ascending."""
        return list(self._columns)

    def of_name(self, name: str) -> Iterator[tuple[str, Column]]:
        """The columns of an attribute, by their types."""
        for type_ in TYPES:
            if (column := self._columns.get(Attribute(name, type_))) is not None:
                yield type_, column

    def __repr__(self) -> str:
        return f"<AttributeColumns {len(self._columns)} of {self.documents} documents>"


def attributes_in(path: Path) -> list[Attribute]:
    """Which attributes a verified file has."""
    return [Attribute(*key) for key in _keys(read_table(path))]


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["name"].to_pylist(), table["type"].to_pylist(), strict=True)


def _column(type_: str, rows: Sequence[int], values: Sequence[Any]) -> Column:
    owners = np.array(rows, np.uint32)
    if type_ in (STRING, STRINGS):
        encoded = pa.array(values, pa.large_string()).dictionary_encode()
        return _sorted(owners, encoded.indices.to_numpy().astype(np.uint32), encoded.dictionary)
    if type_ == TIMESTAMP:
        values = [microseconds(value) for value in values]
    return Column(owners, np.array(values, _DTYPES[type_]), _NO_WORDS)


def _sorted(rows: NDArray[np.uint32], codes: NDArray[np.uint32], words: pa.Array) -> Column:
    """The column with its words ascending, as their UTF-8 bytes are."""
    order = pc.sort_indices(words)
    place = np.empty(len(words), np.uint32)
    place[order.to_numpy()] = np.arange(len(words), dtype=np.uint32)
    return Column(rows, place[codes], words.take(order))


def _moved(column: Column, place: Rows) -> Column:
    """The column's values in their documents' new rows, in any order; lost rows are left out."""
    rows = place[column.rows]
    kept = rows >= 0
    return Column(rows[kept].astype(np.uint32), column.values[kept], column.words)


def _together(parts: Sequence[Column]) -> Column:
    """One column of parts that have each document's values together."""
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    if parts[0].words is _NO_WORDS or not any(len(part.words) for part in parts):
        return Column(rows[order], np.concatenate([p.values for p in parts])[order], _NO_WORDS)
    used = [np.unique(part.values) for part in parts]
    kept = [part.words.take(pa.array(codes)) for part, codes in zip(parts, used, strict=True)]
    words = pc.unique(pa.chunked_array(kept, pa.large_string()))
    codes = [
        pc.index_in(mine, words).to_numpy(zero_copy_only=False)[np.searchsorted(own, part.values)]
        for part, mine, own in zip(parts, kept, used, strict=True)
    ]
    return _sorted(rows[order], np.concatenate(codes).astype(np.uint32)[order], words)


def _written(key: Attribute, column: Column) -> dict[str, Any]:
    packed = key.type == BOOL
    values = np.packbits(column.values, bitorder="little") if packed else column.values
    row = {"name": key.name, "type": key.type, "rows": column.rows, _VALUES[key.type]: values}
    return row | {"words": column.words}


def _list_array(values: Sequence[Any], type_: Any) -> pa.Array:
    """A list per row of the file, empty where there is no value."""
    parts = [
        pa.array([], type_.value_type) if each is None else pa.array(each, type_.value_type)
        for each in values
    ]
    offsets = np.cumsum([0, *map(len, parts)])
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()),
        pa.concat_arrays(parts) if parts else pa.array([], type_.value_type),
    )


def _read(table: pa.Table, number: int, type_: str) -> Column:
    def part(name: str) -> pa.Array:
        return table[name].chunk(0).slice(number, 1).flatten()

    rows = part("rows").to_numpy()
    values = part(_VALUES[type_]).to_numpy()
    if type_ == BOOL:
        values = np.unpackbits(values, count=len(rows), bitorder="little").astype(np.bool_)
    words = part("words") if type_ in (STRING, STRINGS) else _NO_WORDS
    if len(words) <= int(values.max(initial=0)) and len(values) and type_ in (STRING, STRINGS):
        raise ValueError(f"{ATTRIBUTES} names words that it does not have")
    return Column(rows, values, words)
