"""Tables of columns in Arrow IPC files of one batch, mapped into memory and read without copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core import fsops

ArrowFailure = pa.ArrowException


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table as one batch, unsynced."""
    # The file is ours to close: a writer that fails keeps its own open.
    with (
        fsops.storage_errors(path),
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
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


class Blobs:
    """A column of large binaries, read one at a time without Arrow's cost per value, or NumPy's."""

    def __init__(self, table: pa.Table, name: str) -> None:
        self._offsets, self._bytes = _blobs(table, name)

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._bytes[self._offsets[row] : self._offsets[row + 1]])


class Strings(Sequence[str]):
    """A column of large strings, read one at a time: a list of them would outgrow the file."""

    def __init__(self, table: pa.Table, name: str) -> None:
        self._offsets, self._bytes = _blobs(table, name)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return str(self._bytes[self._offsets[row] : self._offsets[row + 1]], "utf-8")


def _blobs(table: pa.Table, name: str) -> tuple[memoryview, memoryview]:
    """Where each value of a column begins, and after the last where that ends; all their bytes."""
    if not table.num_rows:
        return memoryview(bytes(8)).cast("q"), memoryview(b"")
    _, offsets, data = table[name].chunk(0).buffers()
    ends = memoryview(offsets).cast("b").cast("q")
    return ends[: table.num_rows + 1], memoryview(data or b"")
