"""nDCG, and how sure a difference of two rankings' figures is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from deploy.training.first_stage import Floats

CUTOFF = 10
RESAMPLES = 10_000
_SEED = 17


@dataclass(frozen=True)
class Difference:
    """Mean difference, its 95 % interval, and the share of resamples without a gain."""

    mean: float
    low: float
    high: float
    p: float

    def as_dict(self) -> dict[str, float]:
        """Rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def ndcg(ranked: Sequence[int], grades: Mapping[int, float], cutoff: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain with linear gains, as trec_eval computes it."""
    gains = [grades.get(row, 0.0) for row in ranked[:cutoff]]
    ideal = sorted(grades.values(), reverse=True)[:cutoff]
    return _discounted(gains) / _discounted(ideal)


def paired_bootstrap(*collections: tuple[Sequence[float], Sequence[float]]) -> Difference:
    """Second figure minus first, per query, resampled within each collection.

    Several collections count alike: the mean of their means (Efron's percentile interval).
    """
    rng = np.random.default_rng(_SEED)
    means, drawn = [], np.zeros(RESAMPLES)
    for before, after in collections:
        difference = np.asarray(after, np.float64) - np.asarray(before, np.float64)
        means.append(float(difference.mean()))
        drawn += _resampled_means(difference, rng) / len(collections)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(float(np.mean(means)), float(low), float(high), float((drawn <= 0).mean()))


def _resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    count = len(values)
    means = [values[rng.integers(count, size=count)].mean() for _ in range(RESAMPLES)]
    return np.array(means)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
