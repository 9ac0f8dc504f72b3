"""The last measurements of something, and a quantile of them."""

from __future__ import annotations

from collections import deque

# Enough to tell one call in twenty from the slowest, few enough to follow changes.
KEPT = 128
# Sorting 128 numbers takes 5 us: too much for every call to a shard.
REFRESH = 16


class Recent:
    """The last measurements; `value` is their quantile, `assumed` before the first.

    Once there are some, it is looked at anew after every `refresh` of them.
    """

    def __init__(self, quantile: float, assumed: float, *, refresh: int = REFRESH) -> None:
        self.value = assumed
        self._quantile = quantile
        self._refresh_after = refresh
        self._measured: deque[float] = deque(maxlen=KEPT)
        self._until_refresh = 0

    def observe(self, measured: float) -> None:
        """Takes one measurement into account."""
        self._measured.append(measured)
        self._until_refresh -= 1
        if self._until_refresh <= 0:
            some = len(self._measured) >= self._refresh_after
            self._until_refresh = self._refresh_after if some else 1
            self._refresh()

    def forget_least(self) -> None:
        """Drops the least measurement, unless it is the last."""
        if len(self._measured) > 1:
            self._measured.remove(min(self._measured))
            self._refresh()

    @property
    def greatest(self) -> float:
        """The greatest measurement, or what is assumed."""
        return max(self._measured, default=self.value)

    def _refresh(self) -> None:
        ordered = sorted(self._measured)
        self.value = ordered[min(len(ordered) - 1, int(self._quantile * len(ordered)))]

    def __repr__(self) -> str:
        return f"<Recent {len(self._measured)} measured, {self._quantile:g}: {self.value:.4g}>"
