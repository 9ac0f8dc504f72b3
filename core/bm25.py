"""BM25 over all shards: what must be known of the whole collection, and a document's exact score.

    score = sum over terms of  q * idf * (k1 + 1) * f / (f + K)
    idf   = log(1 + (N - n + 0.5) / (n + 0.5))
    K     = k1 * (1 - b + b * length / mean length)

(Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009, with
Lucene's idf.) k1 = 1.2, b = 0.75; q is the weight of the term in the query, f how often the
document has it, n how many of the N documents do. Terms are summed in float64 in ascending order,
so that equal documents have equal scores wherever they lie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75

_ROUNDING = 2.0**-23


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 needs to know: live documents, the words of all of them, and of each term of a
    query how many documents have it."""

    documents: int
    length: int
    holding: Mapping[str, int]

    @property
    def mean_length(self) -> float:
        """Words per document."""
        return self.length / max(1, self.documents)


def idf(documents: int, holding: int) -> float:
    """How much a term tells that `holding` of `documents` have."""
    return math.log1p((documents - holding + 0.5) / (holding + 0.5))


def tantivy_idf(documents: int, holding: Sequence[int]) -> NDArray[np.float64]:
    """The same as Tantivy computes it, in float32; 0 where that cannot tell it from nothing."""
    having = np.array(holding, np.int64)
    half = np.float32(0.5)
    odds = ((documents - having).astype(np.float32) + half) / (having.astype(np.float32) + half)
    rounded: NDArray[np.float64] = np.log(odds + np.float32(1)).astype(np.float64)
    return rounded


def weights(query: Mapping[str, float], statistics: Statistics) -> dict[str, float]:
    """What each term of a query can add to a score at most: q * idf * (k1 + 1)."""
    total, holding = statistics.documents, statistics.holding
    return {term: q * idf(total, holding[term]) * (K1 + 1) for term, q in query.items()}


def scores(
    weighted: Sequence[float],
    frequencies: NDArray[np.float64],
    lengths: NDArray[np.int64],
    mean_length: float,
) -> NDArray[np.float64]:
    """The scores of documents, float64 [documents].

    `weighted` has the `weights` of the terms, `frequencies` is [terms, documents], `lengths` are
    in words.
    """
    saturation = K1 * (1 - B + B * lengths / mean_length)
    added = frequencies / (frequencies + saturation)
    added *= np.array(weighted)[:, None]
    total = np.zeros(len(lengths))
    for part in added:
        total += part
    return total


def overestimate(mean_length: float, other_mean: float, terms: int) -> float:
    """How many times a score that Tantivy gives with `other_mean` for the mean a score can be.

    Only K differs, by the share that lengths have in it. With a smaller `other_mean` Tantivy's K is
    greater, but by no more than mean_length / other_mean, since the constant part stays; and
    f / (f + K) falls by no more than K grows. With a greater `other_mean` no term's score is below.
    That Tantivy rounds lengths down only raises its scores; its float32 may round each of some
    thirty steps down, and each sum.
    """
    return max(1.0, mean_length / other_mean) * (1 + (32 + terms) * _ROUNDING)
