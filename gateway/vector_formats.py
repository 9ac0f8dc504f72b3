"""Vectors as callers want them: float32, float16, int8 with a scale, or one bit per component."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.encoding import SparseVector
from core.errors import InvalidInput

FLOAT32 = "float32"
FLOAT16 = "float16"
INT8 = "int8"
BINARY = "binary"

_LARGEST_BYTE = 127
_LARGEST_HALF = float(np.finfo(np.float16).max)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Vectors of one format, row by row.

    `rows` is float32 [n, d], little-endian float16 [n, d], int8 [n, d] or uint8 [n, (d + 7) // 8].
    `scales`, float32 [n], is what int8 components are multiplied with; 0 for other formats.
    """

    rows: NDArray[np.generic]
    scales: Floats


def pack(vectors: Floats, form: str) -> Packed:
    """Float32 vectors [n, d] in one of the formats above.

    Raises InvalidInput if a component is too large for float16.
    """
    unscaled = np.zeros(len(vectors), dtype=np.float32)
    if form == FLOAT16:
        return Packed(_halves(vectors), unscaled)
    if form == INT8:
        return _bytes(vectors)
    if form == BINARY:
        return Packed(np.packbits(vectors > 0, axis=-1), unscaled)
    return Packed(vectors, unscaled)


def check_directions(vectors: Floats) -> None:
    """Raises InvalidInput if a vector, cut to its first components, has no direction left."""
    lost = np.flatnonzero(~vectors.any(axis=-1))
    if len(lost):
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"the first {vectors.shape[1]} components of the vector of texts[{lost[0]}] are all 0",
            field="dimensions",
            remedy="ask for more",
        )


def heaviest(terms: SparseVector, limit: int) -> SparseVector:
    """The `limit` heaviest of a text's terms, by descending weight, then ascending id."""
    order = np.lexsort((terms.ids, -terms.weights))[:limit]
    return SparseVector(terms.ids[order], terms.weights[order])


def _halves(vectors: Floats) -> NDArray[np.generic]:
    largest = float(np.abs(vectors).max(initial=0))
    if largest > _LARGEST_HALF:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"a component is {largest:g}, float16 ends at {_LARGEST_HALF:g}",
            field="format",
            remedy="ask for VECTOR_FORMAT_FLOAT32 or VECTOR_FORMAT_INT8",
        )
    return vectors.astype("<f2")


def _bytes(vectors: Floats) -> Packed:
    """Symmetric quantisation, each vector by its own largest component."""
    scales = np.abs(vectors).max(axis=-1, initial=0) / np.float32(_LARGEST_BYTE)
    # A vector of zeros, or of numbers too small for a float32 scale, becomes zeros.
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)
    steps = np.rint(vectors / divisors[:, None]).clip(-_LARGEST_BYTE, _LARGEST_BYTE)
    steps[scales == 0] = 0
    return Packed(steps.astype(np.int8), scales)
