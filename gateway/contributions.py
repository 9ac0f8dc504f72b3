"""What each candidate of a leg adds to its document's fused score, method by method.

Every method takes a leg's scores, best first and at least one, the weight of the leg and the rank
constant. No method adds less than 0: a document that a leg has found is never worse for it.

Reciprocal rank fusion: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009. Sums of normalised scores: Bruch, Gai and Ingber,
"An analysis of fusion functions for hybrid retrieval", ACM TOIS 42(1), 2023. Three deviations:
Mazzeschi, "Distribution-based score fusion (DBSF)", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from core.ranking_wish import DISTRIBUTION, MIN_MAX, RRF, Z_SCORE

Scores = Sequence[float]


def reciprocal_ranks(scores: Scores, weight: float, k: float) -> Scores:
    """Weight / (k + rank), with ranks from 1."""
    return _reciprocals(len(scores), weight, k)


@lru_cache(maxsize=64)
def _reciprocals(count: int, weight: float, k: float) -> Scores:
    return tuple(weight / (k + rank) for rank in range(1, count + 1))


def min_max(scores: Scores, weight: float, k: float) -> Scores:
    """Weight times the score between the last, 0, and the first, 1; all 1 if they are equal."""
    return _weighed(brought_to_unit(scores), weight)


def z_score(scores: Scores, weight: float, k: float) -> Scores:
    """Weight times the standard deviations above the last score; 1 if all are equal."""
    _, deviation = _distribution(scores)
    if deviation == 0:
        return [weight] * len(scores)
    low = scores[-1]
    return _weighed([(score - low) / deviation for score in scores], weight)


def three_deviations(scores: Scores, weight: float, k: float) -> Scores:
    """Weight times the score between the mean less and plus three deviations as 0 and 1.

    Scores below count as 0, scores above as what they are, more than 1, so that the first keep
    their order. All are 1/2 if they are equal.
    """
    mean, deviation = _distribution(scores)
    if deviation == 0:
        return [weight / 2] * len(scores)
    low, span = mean - 3 * deviation, 6 * deviation
    return _weighed([max(0.0, (score - low) / span) for score in scores], weight)


METHODS: Mapping[str, Callable[[Scores, float, float], Scores]] = {
    RRF: reciprocal_ranks,
    MIN_MAX: min_max,
    Z_SCORE: z_score,
    DISTRIBUTION: three_deviations,
}


def brought_to_unit(values: Scores) -> list[float]:
    """Values brought to 0..1 by min-max; all 1 if they are equal."""
    low = min(values, default=0.0)
    span = max(values, default=0.0) - low
    return [(value - low) / span for value in values] if span > 0 else [1.0] * len(values)


def _weighed(values: Scores, weight: float) -> Scores:
    return values if weight == 1 else [weight * value for value in values]


def _distribution(scores: Scores) -> tuple[float, float]:
    """Mean and standard deviation of best-first scores; exactly 0 if all are equal."""
    if scores[0] == scores[-1]:
        return scores[0], 0.0
    mean = math.fsum(scores) / len(scores)
    return mean, math.sqrt(math.fsum([(score - mean) ** 2 for score in scores]) / len(scores))
