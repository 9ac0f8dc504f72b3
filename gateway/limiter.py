"""How much work may be under way at once: more while it takes no longer for that, else less.

A gradient limit, as in Netflix' concurrency-limits (Gradient2Limit, 2018): what a piece of work
takes now is compared with what it takes when there is room. It differs in three points. Each kind
of work is compared with itself, since a cached query and a deep rerank have nothing in common. What
is usual is learnt while there is room, so that an overload, however long, does not become usual.
And a limit that is too high falls at once, since everybody waits for it meanwhile; one that is too
low rises only while it is reached.

Pure: time is an argument.
"""

from __future__ import annotations

from math import sqrt

LEAST_LIMIT = 2.0
# Enough for a burst, little enough for one slow core.
FIRST_LIMIT = 16.0
# Queueing that is put up with: without any, processors wait for work.
TOLERANCE = 1.5
# The limit never loses more than this in one step, whatever one slow moment looks like.
LEAST_GRADIENT = 0.5
# How much of a rise is taken at once.
SMOOTHING = 0.2
# A window is over after so long if it has so many samples, and after the longest in any case.
WINDOW_SECONDS = 0.25
WINDOW_SAMPLES = 10
LONGEST_WINDOW_SECONDS = 2.0
# What is usual is the mean of about so many.
MEMORY_SAMPLES = 500
# Of so many kinds; then the one that was met first is forgotten.
MOST_KINDS = 1000
# How fast the rate of finished units follows, per window.
_RATE_SMOOTHING = 0.3


class Limiter:
    """The limit in units of work; `most` is its upper bound.

    `rate` is how many units are finished per second, 0 before the first window is over.
    """

    def __init__(self, most: float, *, now: float) -> None:
        self._most = most
        self.limit = min(FIRST_LIMIT, most)
        self.rate = 0.0
        self._usual: dict[str, _Usual] = {}
        self._window = _Window(now)

    def usual_seconds(self, kind: str) -> float:
        """What work of this kind takes when there is room; 0 if that is not known."""
        usual = self._usual.get(kind)
        return usual.seconds if usual is not None else 0.0

    def finished(
        self, kind: str, units: float, seconds: float, *, taken: float, now: float
    ) -> None:
        """Takes finished work into account; until now `taken` units were under way, its own too.

        Work without a `kind` is not compared with anything.
        """
        self._window.add(kind, units, seconds, taken)
        if self._window.is_over(now):
            self._adapt(now)
            self._window = _Window(now)

    def _adapt(self, now: float) -> None:
        window = self._window
        self.rate += (_RATE_SMOOTHING if self.rate else 1.0) * (window.rate(now) - self.rate)
        has_room = window.peak < self.limit / 2
        slowness = self._slowness(learn_slower=has_room or self.limit <= LEAST_LIMIT)
        if has_room or not slowness:
            return
        gradient = max(LEAST_GRADIENT, min(1.0, TOLERANCE / slowness))
        target = self.limit * gradient + sqrt(self.limit)
        if target > self.limit:
            was_reached = window.peak > self.limit - 1
            target = self.limit + SMOOTHING * (target - self.limit) * was_reached
        self.limit = max(min(LEAST_LIMIT, self._most), min(self._most, target))

    def _slowness(self, *, learn_slower: bool) -> float:
        """How many times as long as usual work took, in the mean; 0 if there was none."""
        times, total = 0.0, 0
        for kind, (count, seconds) in self._window.kinds.items():
            usual = self._usual_of(kind)
            if learn_slower or not usual.count or seconds / count < usual.seconds:
                usual.learn(count, seconds)
            times += seconds / usual.seconds
            total += count
        return times / total if total else 0.0

    def _usual_of(self, kind: str) -> _Usual:
        if kind not in self._usual:
            self._usual[kind] = _Usual()
            if len(self._usual) > MOST_KINDS:
                del self._usual[next(iter(self._usual))]
        return self._usual[kind]

    def __repr__(self) -> str:
        return f"<Limiter {self.limit:.1f} units, {self.rate:.0f} done per second>"


class _Usual:
    """The mean of the last times of one kind."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def learn(self, count: int, seconds: float) -> None:
        """Takes `count` times into account, `seconds` together."""
        self.count = min(max(MEMORY_SAMPLES, count), self.count + count)
        self.seconds += (seconds / count - self.seconds) * count / self.count


class _Window:
    """What was finished in a short time."""

    def __init__(self, began: float) -> None:
        self.peak = 0.0
        self.kinds: dict[str, tuple[int, float]] = {}
        self._began = began
        self._samples = 0
        self._units = 0.0

    def add(self, kind: str, units: float, seconds: float, taken: float) -> None:
        self._samples += 1
        self._units += units
        self.peak = max(self.peak, taken)
        if kind:
            # A clock may stand still over the shortest work.
            count, before = self.kinds.get(kind, (0, 0.0))
            self.kinds[kind] = (count + 1, before + max(seconds, 1e-6))

    def is_over(self, now: float) -> bool:
        age = now - self._began
        enough = self._samples >= WINDOW_SAMPLES and age >= WINDOW_SECONDS
        return enough or age >= LONGEST_WINDOW_SECONDS

    def rate(self, now: float) -> float:
        return self._units / (now - self._began)
