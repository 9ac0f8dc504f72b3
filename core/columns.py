"""Tables of columns in Arrow IPC files of one batch, mapped into memory and read without copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core import fsops

_ROWS_AT_A_TIME = 8192

ArrowFailure = pa.ArrowException


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table as one batch, unsynced."""
    with fsops.storage_errors(path), pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_table(path: Path) -> pa.Table:
    """Maps a table; raises ArrowFailure, OSError or ValueError if it is not one."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.num_rows == 0:
        return table.schema.empty_table()
    if table.column(0).num_chunks != 1:
        raise ValueError(f"{path.name} has more than one batch")
    return table


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of numbers without nulls, as it lies in the file."""
    found = table[name]
    if found.num_chunks == 0:
        return np.zeros(0, found.type.to_pandas_dtype())
    values: NDArray[Any] = found.chunk(0).to_numpy(zero_copy_only=True)
    return values


def lists(table: pa.Table, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """A column of lists of numbers: offsets, [rows + 1], and the values of all lists."""
    found = table[name]
    if found.num_chunks == 0:
        empty = np.zeros(0, found.type.value_type.to_pandas_dtype())
        return np.zeros(1, np.int32), empty
    chunk = found.chunk(0)
    return chunk.offsets.to_numpy(), chunk.values.to_numpy()


def strings(table: pa.Table, name: str) -> list[str]:
    """A column of strings as a list, made in parts: other threads get their turn in between."""
    found: list[str] = []
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        found += table[name].slice(start, _ROWS_AT_A_TIME).to_pylist()
    return found


class Blobs:
    """A column of large binaries, read one at a time without Arrow's cost per value."""

    def __init__(self, table: pa.Table, name: str) -> None:
        if not table.num_rows:
            self._offsets, self._bytes = np.zeros(1, np.int64), memoryview(b"")
            return
        _, offsets, data = table[name].chunk(0).buffers()
        self._offsets = np.frombuffer(offsets, np.int64, table.num_rows + 1)
        self._bytes = memoryview(data or b"")

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._bytes[self._offsets[row] : self._offsets[row + 1]])
