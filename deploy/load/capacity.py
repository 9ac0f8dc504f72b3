"""The search for capacity: which rate to try next, and when to stop. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Known well enough once the least failing rate is so near the greatest passing one.
_NEAR = 1.1
_LEAST_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rate must keep: the p99 in milliseconds, the share of failed queries."""

    p99_ms: float
    failures: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rate gave. `late` says that the generator did not keep time."""

    rate: float
    p99_ms: float | None
    failures: float
    reasons: str = ""
    late: bool = False

    def broken(self, bounds: Bounds) -> str:
        """Which bound was passed, in words; empty if none was."""
        if self.failures > bounds.failures:
            return (
                f"{self.failures:.1%} of the queries failed ({self.reasons}), "
                f"{bounds.failures:.1%} may"
            )
        if self.p99_ms is None:
            return "no query was answered"
        if self.p99_ms > bounds.p99_ms:
            return f"p99 was {self.p99_ms:.1f} ms, {bounds.p99_ms:g} ms may be"
        return ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The greatest rate within the bounds, 0 if none was, and why no greater one was reached."""

    rate: float
    stopped_because: str


def next_rate(
    outcomes: Sequence[Outcome], bounds: Bounds, *, growth: float, most: float
) -> float | None:
    """The rate to try after these, None when capacity is known.

    Rates grow by `growth` until a bound is passed, then halve the gap. If already the first passes
    a bound, they fall.
    """
    passed, failed = _edges(outcomes, bounds)
    if not failed:
        grown = min(passed * growth, most)
        return grown if grown > passed else None
    if not passed:
        return failed / growth**2 if failed / growth**2 >= _LEAST_RATE else None
    return math.sqrt(passed * failed) if failed / passed > _NEAR else None


def capacity(outcomes: Sequence[Outcome], bounds: Bounds) -> Capacity:
    """What the outcomes say."""
    passed, failed = _edges(outcomes, bounds)
    if not failed:
        return Capacity(passed, f"{passed:g}/s is the greatest rate that was to be tried")
    worst = next(each for each in outcomes if each.rate == failed)
    said = f"at {failed:.3g}/s {worst.broken(bounds)}"
    if worst.late:
        said += "; the generator itself was late there, so the cluster may carry more"
    return Capacity(passed, said)


def _edges(outcomes: Sequence[Outcome], bounds: Bounds) -> tuple[float, float]:
    """The greatest rate below all that passed a bound, and the least that did; 0 for none."""
    failed = min((each.rate for each in outcomes if each.broken(bounds)), default=0.0)
    good = (each.rate for each in outcomes if not each.broken(bounds))
    return max((rate for rate in good if not failed or rate < failed), default=0.0), failed
