"""The learned-sparse part of a segment: which passages each term weighs in, and how much.

SPLADE and its like give every text weights over the terms of a vocabulary; two texts are as alike
as the inner product of their weights (Formal, Piwowarski and Clinchant, "SPLADE", SIGIR 2021). The
file is an Arrow table with a row per term that occurs, by ascending `term` (int32): `passages`
(list<uint32>, ascending rows of passages.arrow) and `weights` (list<float32>, above 0) beside them.

Every passage with a term of the query is scored, so an answer is exact. A score is summed in
float64 by ascending term: the same passage has the same score in whichever segment it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.columns import column, lists, read_table, write_table
from core.errors import TriremeError

COLUMNS = pa.schema(
    [
        ("term", pa.int32()),
        ("passages", pa.list_(pa.uint32())),
        ("weights", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """One weight per term and passage: int32 `terms`, int64 `passages`, float32 `weights`, [n]."""

    terms: NDArray[np.int32]
    passages: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def none(cls) -> Self:
        """No postings."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    @classmethod
    def of(cls, passages: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> Self:
        """The postings of passages from row 0 on, each given as distinct terms and weights."""
        counts = [len(terms) for terms, _ in passages]
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(terms for terms, _ in passages)]),
            np.repeat(np.arange(len(passages)), counts),
            np.concatenate([np.zeros(0, np.float32), *(weights for _, weights in passages)]),
        )

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """All postings of several."""
        parts = [cls.none(), *parts]
        return cls(
            np.concatenate([part.terms for part in parts]),
            np.concatenate([part.passages for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )

    def moved(self, place: NDArray[np.int64]) -> Postings:
        """The postings under new passage rows: `place` of the old one, dropped where it is -1."""
        passages = place[self.passages]
        kept = passages >= 0
        return Postings(self.terms[kept], passages[kept], self.weights[kept])

    def __len__(self) -> int:
        return len(self.terms)


def write_postings(path: Path, postings: Postings) -> None:
    """Writes postings in any order; raises TriremeError for a weight that is not above 0."""
    if not (np.isfinite(postings.weights) & (postings.weights > 0)).all():
        raise TriremeError("a term's weight is no finite number above 0")
    order = np.lexsort((postings.passages, postings.terms))
    terms, first = np.unique(postings.terms[order], return_index=True)
    offsets = pa.array(np.append(first, len(order)).astype(np.int32))
    passages = pa.array(postings.passages[order], pa.uint32(), safe=True)
    weights = pa.array(postings.weights[order], pa.float32())
    columns = [
        pa.array(terms, pa.int32()),
        pa.ListArray.from_arrays(offsets, passages),
        pa.ListArray.from_arrays(offsets, weights),
    ]
    write_table(pa.Table.from_arrays(columns, schema=COLUMNS), path)


def count_postings(path: Path) -> int:
    """How many postings a file that `write_postings` wrote holds."""
    return len(lists(read_table(path), "passages")[1])


class SparsePart:
    """An open file of postings, mapped; safe to share between threads.

    `postings` counts them, `passages` is the number of rows of the segment's passages.
    """

    def __init__(self, table: pa.Table, passages: int) -> None:
        self._terms = column(table, "term")
        self._offsets, self._passages = lists(table, "passages")
        _, self._weights = lists(table, "weights")
        self.postings = len(self._passages)
        self.passages = passages

    @classmethod
    def open(cls, path: Path, passages: int) -> SparsePart:
        """Opens a verified file; raises ArrowFailure, OSError or ValueError if it does not fit."""
        table = read_table(path)
        if table.schema != COLUMNS:
            raise ValueError(f"{path.name} does not have this version's columns")
        part = cls(table, passages)
        if part.postings != len(part._weights) or (part._passages >= passages).any():
            raise ValueError(f"{path.name} does not fit the segment's passages")
        return part

    def scores(self, terms: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each passage's inner product with a query of distinct terms: float64 [passages]."""
        scores = np.zeros(self.passages)
        for place, weight in self._known(terms, weights):
            rows = slice(self._offsets[place], self._offsets[place + 1])
            # Within a term no passage stands twice.
            scores[self._passages[rows]] += np.multiply(
                self._weights[rows], weight, dtype=np.float64
            )
        return scores

    def read(self) -> Postings:
        """Every posting."""
        terms = np.repeat(self._terms, np.diff(self._offsets))
        return Postings(terms, self._passages.astype(np.int64), self._weights)

    def _known(
        self, terms: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> list[tuple[int, np.float64]]:
        """The rows of the query's terms that occur here, by ascending term, with their weights."""
        if not len(self._terms):
            return []
        order = np.argsort(terms, kind="stable")
        terms, weights = terms[order], weights[order]
        places = np.minimum(np.searchsorted(self._terms, terms), len(self._terms) - 1)
        found = self._terms[places] == terms
        return [
            (int(place), np.float64(weight))
            for place, weight in zip(places[found], weights[found], strict=True)
        ]

    def __repr__(self) -> str:
        return f"<SparsePart {len(self._terms)} terms, {self.postings} postings>"
