"""When queries are due: drawn beforehand, so that no answer can put a query off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ARRIVALS = ("poisson", "constant")


def plan_arrivals(
    rate: float, seconds: float, seed: int, kind: str = "poisson"
) -> NDArray[np.float64]:
    """Moments in seconds from the start at which queries are due, ascending, all below `seconds`.

    `poisson`: independent callers, `rate` per second on average. `constant`: evenly spaced.
    """
    if kind == "constant":
        return np.arange(max(1, round(rate * seconds))) / rate
    generator = np.random.default_rng(seed)
    moments: list[NDArray[np.float64]] = []
    last = 0.0
    while last < seconds:
        gaps = generator.exponential(1 / rate, size=int(rate * seconds) + 16)
        moments.append(last + np.cumsum(gaps))
        last = float(moments[-1][-1])
    drawn = np.concatenate(moments)
    return drawn[drawn < seconds]
