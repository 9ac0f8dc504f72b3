"""What came back from a load, in HDR histograms: they add up over processes without loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from hdrh.histogram import HdrHistogram

_LONGEST_MICROSECONDS = 600_000_000
# Figures are off by a thousandth at most.
_DIGITS = 3


class Histogram:
    """Times from a microsecond to ten minutes, recorded in seconds and told in milliseconds."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(1, _LONGEST_MICROSECONDS, _DIGITS)

    def record(self, seconds: float) -> None:
        """Adds one time; what is outside the range counts as its nearest end."""
        self._counts.record_value(min(max(1, round(seconds * 1e6)), _LONGEST_MICROSECONDS))

    def add(self, other: Histogram) -> None:
        """Adds all that another one holds."""
        self._counts.add(other._counts)

    def percentile(self, share: float) -> float | None:
        """Milliseconds that `share` per cent of the times do not exceed; None of no times."""
        if not len(self):
            return None
        return round(float(self._counts.get_value_at_percentile(share)) / 1000, 3)

    @property
    def mean(self) -> float | None:
        """Milliseconds on average; None of no times."""
        return round(float(self._counts.get_mean_value()) / 1000, 3) if len(self) else None

    @property
    def longest(self) -> float | None:
        """Milliseconds of the longest; None of no times."""
        return self.percentile(100)

    def __len__(self) -> int:
        return int(self._counts.get_total_count())

    def __reduce__(self) -> Any:
        return _decoded, (self._counts.encode(),)

    def __repr__(self) -> str:
        return f"<Histogram of {len(self)}, p50 {self.percentile(50)} ms>"


def _decoded(encoded: bytes) -> Histogram:
    histogram = Histogram()
    histogram._counts = HdrHistogram.decode(encoded)
    return histogram


class Histograms(dict[str, Histogram]):
    """Histograms by name, made when they are first asked for."""

    def __missing__(self, name: str) -> Histogram:
        self[name] = Histogram()
        return self[name]

    def add(self, other: Histograms) -> None:
        """Adds all that the other ones hold, by name."""
        for name, histogram in other.items():
            self[name].add(histogram)


@dataclass(slots=True)
class Tally:
    """Answers, refusals and how well the generator kept time.

    `answered` and `shapes` hold latencies from when a query was due. `failed` holds by reason how
    long a failure took from when it was sent. `stages` and `starts` hold lengths and beginnings of
    the stages, `waits` their inner parts, as replies tell them. `late` is how long after it was due
    a query was sent. `busy` is the share of a core that the busiest process took.
    """

    answered: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    shapes: Histograms = field(default_factory=Histograms)
    failed: Histograms = field(default_factory=Histograms)
    stages: Histograms = field(default_factory=Histograms)
    starts: Histograms = field(default_factory=Histograms)
    waits: Histograms = field(default_factory=Histograms)
    shortfalls: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    busy: float = 0.0
    seconds: float = 0.0

    def add(self, other: Tally) -> Self:
        """Adds what another process saw of the same load."""
        for mine, its in self._pairs(other):
            mine.add(its)
        self.shortfalls.update(other.shortfalls)
        self.degraded += other.degraded
        self.busy = max(self.busy, other.busy)
        self.seconds = max(self.seconds, other.seconds)
        return self

    def _pairs(self, other: Tally) -> Iterator[tuple[Any, Any]]:
        names = ("answered", "late", "shapes", "failed", "stages", "starts", "waits")
        return ((getattr(self, name), getattr(other, name)) for name in names)
