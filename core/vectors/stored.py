"""Vectors as a sealed segment stores them, by row: what coarse answers are scored again from.

    f32   as the encoder gave them
    f16   half precision, for components up to 65,504
    i8    127 steps of a scale of each vector's own: float32 scale, int8 [dimension]

A file holds one record per row and nothing else. Decoding and storing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import fsops

F32 = "f32"
F16 = "f16"
I8 = "i8"
PRECISIONS = (F32, F16, I8)

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_STEPS = 127
_SIGN_AND_MAGNITUDE = np.int32(0x8FFFE000 - 2**32)
_HALF_TO_SINGLE = np.float32(2.0**112)


def record(precision: str, dimension: int) -> np.dtype[Any]:
    """What one vector is in a file."""
    if precision == I8:
        return np.dtype([("scale", "<f4"), ("steps", "i1", (dimension,))])
    return np.dtype(("<f4" if precision == F32 else "<f2", (dimension,)))


def name_of(precision: str) -> str:
    """The name of the file."""
    return f"vectors.{precision}"


class StoredVectors:
    """All vectors of an index, mapped or in memory; read only and safe to share."""

    def __init__(self, records: NDArray[Any], precision: str) -> None:
        self._records = records
        self.precision = precision

    @classmethod
    def open(cls, path: Path, precision: str, *, rows: int, dimension: int) -> StoredVectors:
        """Maps a verified file; raises ValueError if it does not have that many rows."""
        kind = record(precision, dimension)
        if path.stat().st_size != rows * kind.itemsize:
            raise ValueError(f"{path.name} does not hold {rows} vectors of {dimension} components")
        base, shape = kind.subdtype or (kind, ())
        mapped = np.memmap(path, base, mode="r", shape=(rows, *shape))
        return cls(mapped.view(np.ndarray), precision)

    def __len__(self) -> int:
        return len(self._records)

    def decoded(self, rows: Rows | slice) -> Vectors:
        """The vectors in these rows, float32 [n, dimension]."""
        found = self._records[rows]
        if self.precision == I8:
            return np.multiply(found["steps"], found["scale"][:, None], dtype=np.float32)
        return found if self.precision == F32 else _widened(found)


def _widened(halves: NDArray[np.float16]) -> Vectors:
    """Finite half precision as float32, exactly; NumPy's own conversion takes four times as long.

    Sign and exponent are moved to where float32 has them; what is then 2^112 too small is scaled.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_MAGNITUDE
    widened = bits.view(np.float32)
    widened *= _HALF_TO_SINGLE
    return widened


def write_stored(path: Path, blocks: Iterable[Vectors], precision: str) -> None:
    """Writes vectors, block by block, unsynced."""
    with fsops.storage_errors(path), path.open("xb") as file:
        for block in blocks:
            file.write(encoded(block, precision).data)


def encoded(vectors: Vectors, precision: str) -> NDArray[Any]:
    """Vectors as records of a precision."""
    if precision == F32:
        return np.ascontiguousarray(vectors, "<f4")
    if precision == F16:
        return np.ascontiguousarray(vectors, "<f2")
    records = np.zeros(len(vectors), record(I8, vectors.shape[1]))
    largest = np.abs(vectors).max(axis=1, initial=0)
    records["scale"] = largest / _STEPS
    scales = np.where(largest > 0, records["scale"], 1)[:, None]
    records["steps"] = np.clip(np.rint(vectors / scales), -_STEPS, _STEPS)
    return records
