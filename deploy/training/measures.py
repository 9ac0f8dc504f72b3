"""nDCG over row numbers, for rankings that are still in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

CUTOFF = 10


def ndcg(ranked: Sequence[int], grades: Mapping[int, float], cutoff: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain with linear gains, as trec_eval computes it."""
    gains = [grades.get(row, 0.0) for row in ranked[:cutoff]]
    ideal = sorted(grades.values(), reverse=True)[:cutoff]
    return _discounted(gains) / _discounted(ideal)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
