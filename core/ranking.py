"""Cutting a best-first list without tearing ties apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def count_with_ties(scores: Sequence[float], limit: int) -> int:
    """How many of the best-first `scores` are at least as good as number `limit`."""
    kept = min(limit, len(scores))
    while 0 < kept < len(scores) and scores[kept] == scores[limit - 1]:
        kept += 1
    return kept


def best_with_ties(scores: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    """The places of the `limit` greatest `scores` and of all that tie with the last, best first."""
    places = np.arange(len(scores))
    if len(scores) > limit:
        least = np.partition(scores, -limit)[-limit]
        places = places[scores >= least]
    return places[np.argsort(-scores[places], kind="stable")]
