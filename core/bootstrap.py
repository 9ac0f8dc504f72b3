"""How sure a difference of two rankings' figures is: the paired bootstrap over queries.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; for retrieval: Sakai, "Evaluating
evaluation metrics based on the bootstrap", SIGIR 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_SEED = 17
_NUMBERS_AT_ONCE = 1_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Mean difference, its 95 % interval, and the share of resamples without a gain (one-sided)."""

    mean: float
    low: float
    high: float
    p: float
    two_sided_p: float

    def as_dict(self) -> dict[str, float]:
        """Rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def paired_bootstrap(*collections: tuple[Sequence[float], Sequence[float]]) -> Difference:
    """Second figure minus first, per query, resampled within each collection.

    Several collections count alike: the mean of their means (Efron's percentile interval). Both
    sequences of a pair hold the same queries in the same order.
    """
    rng = np.random.default_rng(_SEED)
    means, drawn = [], np.zeros(RESAMPLES)
    for before, after in collections:
        difference = np.asarray(after, np.float64) - np.asarray(before, np.float64)
        means.append(float(difference.mean()))
        drawn += _resampled_means(difference, rng) / len(collections)
    low, high = np.percentile(drawn, [2.5, 97.5])
    no_gain, no_loss = float((drawn <= 0).mean()), float((drawn >= 0).mean())
    return Difference(
        mean=float(np.mean(means)),
        low=float(low),
        high=float(high),
        p=no_gain,
        two_sided_p=min(1.0, 2 * min(no_gain, no_loss)),
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of `values`, over resampled queries."""
    drawn = _resampled_means(np.asarray(values, np.float64), np.random.default_rng(_SEED))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    """`RESAMPLES` means of as many values, drawn with replacement."""
    rows = max(1, _NUMBERS_AT_ONCE // len(values))
    means = []
    for first in range(0, RESAMPLES, rows):
        shape = min(rows, RESAMPLES - first), len(values)
        means.append(values[rng.integers(len(values), size=shape)].mean(axis=1))
    return np.concatenate(means)
