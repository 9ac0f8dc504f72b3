"""How much of the truth a search finds, and the least effort that finds enough.

Queries are made from the segment's own vectors: each is the mean of twelve, drawn at random. Short
questions lie about as far from the passages that answer them: an index that is tuned by queries
closer to its vectors promises more than it keeps (docs/vectors.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from core.similarity import DOT, similarities
from core.vectors.index import VectorIndex
from core.vectors.kinds import METRICS
from core.vectors.selection import Selection
from core.vectors.stored import StoredVectors

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

NEAREST = 10
QUERIES = 200
_BLOCK = 8192
_SEED = 20
_MIXED = 12


def sampled_queries(stored: StoredVectors, similarity: str, count: int = QUERIES) -> Vectors:
    """Queries, float32 [count, dimension], among the vectors of a segment; the same every time."""
    drawn = np.random.default_rng(_SEED).integers(0, len(stored), (_MIXED, count))
    parts = [stored.decoded(rows) for rows in drawn]
    mixed = np.mean(parts, axis=0, dtype=np.float32)
    if similarity != DOT:
        return np.asarray(mixed, np.float32)
    # As long as a vector is: a query of length 1 among vectors of length 1.
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    wanted = np.linalg.norm(parts[0], axis=1, keepdims=True)
    return np.asarray(
        mixed * np.divide(wanted, lengths, where=lengths > 0, out=lengths), np.float32
    )


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Queries, float32 [q, dimension], and the score of the tenth nearest of `stored` to each."""

    stored: StoredVectors
    similarity: str
    queries: Vectors
    tenth: Vectors

    @classmethod
    def of(
        cls, stored: StoredVectors, similarity: str, queries: Vectors, check: Callable[[], None]
    ) -> Truth:
        """Compares every query with every vector, in blocks; `check` is called between them."""
        nearest = [np.zeros((len(queries), 0), np.int64)]
        for first in range(0, len(stored), _BLOCK):
            check()
            block = np.ascontiguousarray(stored.decoded(slice(first, first + _BLOCK)))
            wanted = min(NEAREST, len(block))
            _, rows = faiss.knn(queries, block, wanted, metric=METRICS[similarity])
            nearest.append(rows + first)
        candidates = np.concatenate(nearest, axis=1)
        scores = [
            similarities(stored.decoded(rows), query, similarity)
            for rows, query in zip(candidates, queries, strict=True)
        ]
        kept = min(NEAREST, len(stored))
        tenth = [np.sort(each)[-kept] for each in scores]
        return cls(stored, similarity, queries, np.array(tenth, np.float32))

    def recall(self, index: VectorIndex) -> float:
        """The share of the nearest that an index finds; a tie with the tenth counts as found."""
        nearest = min(NEAREST, len(index))
        found = 0
        for query, least in zip(self.queries, self.tenth, strict=True):
            rows = index.search(query, nearest, None)[1]
            scores = similarities(self.stored.decoded(rows), query, self.similarity)
            found += int((scores >= least).sum())
        return found / (nearest * len(self.queries))


def found_of_nearest(
    index: VectorIndex, query: Vectors, selection: Selection | None
) -> tuple[int, int]:
    """How many of the nearest selected rows a search finds, and how many these are.

    One that ties with the last of them counts as found. Truth is what the stored vectors say.
    """
    scores, _ = index.search_exactly(query, NEAREST, selection)
    if not len(scores):
        return 0, 0
    found, _ = index.search(query, len(scores), selection)
    return int((found >= scores[-1]).sum()), len(scores)


def least_effort(
    efforts: Sequence[int], recall_at: Callable[[int], float], target: float
) -> tuple[int, float]:
    """The smallest of ascending efforts that meets the target, and its recall.

    The largest if none does. Recall is taken to grow with effort.
    """
    low, high = 0, len(efforts) - 1
    best = efforts[high], recall_at(efforts[high])
    while low < high and best[1] >= target:
        middle = (low + high) // 2
        recall = recall_at(efforts[middle])
        if recall >= target:
            best, high = (efforts[middle], recall), middle
        else:
            low = middle + 1
    return best
