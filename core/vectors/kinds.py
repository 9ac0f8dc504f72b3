"""The table of index kinds: what each costs, what it can do, how an empty one is made.

Sizes and speeds behind it are measured in docs/vectors.md. Kinds other than flat find candidates,
which are scored again from the stored vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss

from core.similarity import COSINE, DOT, EUCLIDEAN, MANHATTAN, SIMILARITIES
from core.vectors.stored import F16, F32, I8

METRICS = {
    COSINE: faiss.METRIC_INNER_PRODUCT,
    DOT: faiss.METRIC_INNER_PRODUCT,
    EUCLIDEAN: faiss.METRIC_L2,
    MANHATTAN: faiss.METRIC_L1,
}
FLAT = "flat"
IVF_FLAT = "ivf_flat"
IVF_SQ8 = "ivf_sq8"
IVF_PQ = "ivf_pq"
IVF_RABITQ = "ivf_rabitq"
HNSW = "hnsw"

_ID_BYTES = 8
_NEIGHBOURS = 16
# FAISS's fast scan sums at most this many tables without running over 16 bits.
_MOST_TABLES = 256
_NOT_MANHATTAN = (COSINE, DOT, EUCLIDEAN)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of index.

    `index` is FAISS's class. `make` gives an empty one of a dimension, metric and number of lists.
    `code_bytes` says what a vector takes in it, ids and links included. `precisions` are those in
    which its vectors are stored beside it, best first. Of the candidates that a caller wants,
    `fetched` times as many are scored again. `better` is the kind to try if this one does not reach
    the wanted recall. It learns its code from at least `least_rows` vectors.
    """

    name: str
    index: str
    make: Callable[[int, int, int], Any]
    code_bytes: Callable[[int], float]
    precisions: tuple[str, ...] = ()
    similarities: tuple[str, ...] = SIMILARITIES
    fetched: float = 1.0
    better: str = ""
    least_rows: int = 1
    has_lists: bool = True
    runs_on_gpu: bool = True

    def bytes_per_vector(self, dimension: int, precision: str) -> float:
        """What a vector takes in the index and beside it."""
        beside = {F32: 4 * dimension, F16: 2 * dimension, I8: dimension + 4, "": 0}[precision]
        return self.code_bytes(dimension) + beside

    def fits(self, rows: int, dimension: int, similarity: str) -> bool:
        """Whether it takes so many such vectors."""
        if self.name == IVF_PQ and not tables(dimension):
            return False
        return similarity in self.similarities and rows >= self.least_rows


def tables(dimension: int) -> int:
    """Sub-vectors of 4 components, or of 8 if there would be too many; 0 if neither divides."""
    for width in (4, 8, 16):
        if dimension % width == 0 and dimension // width <= _MOST_TABLES:
            return dimension // width
    return 0


def lists_for(rows: int) -> int:
    """Lists of an index of so many vectors: the power of two next to twice the root."""
    wanted = round(math.log2(2 * math.sqrt(max(rows, 1))))
    return int(2 ** max(0, min(wanted, rows.bit_length() - 3)))


def _ivf(code: str) -> Callable[[int, int, int], Any]:
    def make(dimension: int, metric: int, lists: int) -> Any:
        description = f"IVF{lists},{code.format(tables=tables(dimension))}"
        return faiss.index_factory(dimension, description, metric)

    return make


def _hnsw(dimension: int, metric: int, lists: int) -> Any:
    return faiss.index_factory(dimension, f"HNSW{_NEIGHBOURS},SQ8", metric)


def _flat(dimension: int, metric: int, lists: int) -> Any:
    return faiss.IndexFlat(dimension, metric)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(FLAT, "IndexFlat", _flat, lambda d: 4 * d, has_lists=False),
        Kind(IVF_FLAT, "IndexIVFFlat", _ivf("Flat"), lambda d: 4 * d + _ID_BYTES, (F32,)),
        Kind(
            IVF_SQ8,
            "IndexIVFScalarQuantizer",
            _ivf("SQ8"),
            lambda d: d + _ID_BYTES,
            (F16, I8),
            _NOT_MANHATTAN,
            fetched=1.5,
            better=IVF_FLAT,
        ),
        Kind(
            IVF_PQ,
            "IndexIVFPQFastScan",
            _ivf("PQ{tables}x4fs"),
            lambda d: tables(d) / 2 + _ID_BYTES,
            (F16, I8),
            _NOT_MANHATTAN,
            fetched=4.0,
            better=IVF_SQ8,
            least_rows=64,
            runs_on_gpu=False,
        ),
        Kind(
            IVF_RABITQ,
            "IndexIVFRaBitQFastScan",
            _ivf("RaBitQfs"),
            lambda d: d / 8 + 16 + _ID_BYTES,
            (F16, I8),
            _NOT_MANHATTAN,
            fetched=4.0,
            better=IVF_SQ8,
            runs_on_gpu=False,
        ),
        Kind(
            HNSW,
            "IndexHNSWSQ",
            _hnsw,
            lambda d: d + 8 * _NEIGHBOURS + _ID_BYTES,
            (F16, I8),
            _NOT_MANHATTAN,
            fetched=1.5,
            better=IVF_FLAT,
            has_lists=False,
            runs_on_gpu=False,
        ),
    )
}
BY_INDEX = {kind.index: kind for kind in KINDS.values()}
