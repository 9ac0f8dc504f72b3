"""Who comes next, and who has to go: a short queue shared by lanes, and within a lane by callers.

Stride scheduling on two levels (Waldspurger and Weihl, 1995): every lane and every caller has a
pass, which grows by units / weight with everything that is taken from it, and the lowest is next.
So whoever waits all the time gets its share by weight, however much the others bring. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.lanes import LANE_WEIGHTS, Lane
from gateway.work import Work

Key = TypeVar("Key")
Line = TypeVar("Line", bound="_Line")

# Callers that do not wait are remembered until their pass is behind; so many at most.
MOST_IDLE_CALLERS = 256


@dataclass(eq=False, slots=True)
class Entry:
    """Work of a caller that waits; if `fixed`, nothing takes its place and it takes nobody's."""

    work: Work
    caller: str
    weight: float
    fixed: bool = False


class FairQueue:
    """Entries in the order of their arrival per caller.

    `places` counts those that are not fixed, and `units` is what they are together.
    """

    def __init__(self) -> None:
        self.units = 0.0
        self.places = 0
        self._count = 0
        self._lanes = _Shares[Lane, _LaneLine](
            {lane: _LaneLine(LANE_WEIGHTS[lane]) for lane in Lane}
        )

    def __len__(self) -> int:
        return self._count

    def push(self, entry: Entry) -> None:
        """Puts an entry at the end of its caller's line."""
        lane = self._lanes.join(entry.work.lane)
        line = lane.callers.join(entry.caller, _CallerLine(entry.weight))
        line.weight = entry.weight
        line.entries.append(entry)
        self._count_in(lane, line, entry, 1)

    def pop(self) -> Entry:
        """Takes out what comes next; there must be something."""
        lane = self._lanes.next()
        line = lane.callers.next()
        entry = line.entries.popleft()
        self._count_in(lane, line, entry, -1)
        self._lanes.charge(lane, entry.work.units)
        lane.callers.charge(line, entry.work.units)
        lane.callers.forget_idle(MOST_IDLE_CALLERS)
        return entry

    def remove(self, entry: Entry) -> None:
        """Takes out an entry that waits no more."""
        lane = self._lanes.lines[entry.work.lane]
        line = lane.callers.lines[entry.caller]
        line.entries.remove(entry)
        self._count_in(lane, line, entry, -1)

    def displaced_by(self, entry: Entry) -> Entry | None:
        """What should make room for `entry`: the newest of who holds more than its share.

        None if that is the lane and the caller of `entry` itself.
        """
        lane = self._lanes.longest(entry.work.lane, entry.work.units)
        if lane is not self._lanes.lines[entry.work.lane]:
            line = lane.callers.longest()
        else:
            own = lane.callers.join(entry.caller, _CallerLine(entry.weight))
            line = lane.callers.longest(entry.caller, entry.work.units)
            if line is own:
                return None
        return next(each for each in reversed(line.entries) if not each.fixed)

    def waiting(self, lane: Lane) -> int:
        """How many entries of a lane wait."""
        return self._lanes.lines[lane].count

    @property
    def remembered(self) -> int:
        """How many callers it knows."""
        return sum(len(lane.callers.lines) for lane in self._lanes.lines.values())

    def _count_in(self, lane: _LaneLine, line: _CallerLine, entry: Entry, sign: int) -> None:
        self._count += sign
        lane.count += sign
        line.count += sign
        if not entry.fixed:
            self.places += sign
            self.units += sign * entry.work.units
            lane.units += sign * entry.work.units
            line.units += sign * entry.work.units


class _Line:
    """What is queued under one key, and how much of its share it has had."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.done = 0.0
        self.units = 0.0
        self.count = 0


class _CallerLine(_Line):
    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.entries: deque[Entry] = deque()


class _LaneLine(_Line):
    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.callers = _Shares[str, _CallerLine]({})


class _Shares(Generic[Key, Line]):
    """Lines that share by their weights."""

    def __init__(self, lines: Mapping[Key, Line]) -> None:
        self.lines = dict(lines)
        self._now = 0.0

    def join(self, key: Key, new: Line | None = None) -> Line:
        """The line of a key, made if need be; who has not waited has no claims from before."""
        line = self.lines.get(key)
        if line is None:
            assert new is not None
            line = self.lines[key] = new
        if not line.count:
            line.done = max(line.done, self._now)
        return line

    def next(self) -> Line:
        """The line whose turn it is."""
        return min(self._waiting(), key=lambda line: line.done)

    def charge(self, line: Line, units: float) -> None:
        """Notes that a line has had its turn."""
        self._now = max(self._now, line.done)
        line.done += units / line.weight

    def longest(self, own: Key | None = None, units: float = 0.0) -> Line:
        """The line that holds most for its weight; `own` counts `units` more, and in a tie."""
        mine = self.lines[own] if own is not None else None

        def held(line: Line) -> tuple[float, bool]:
            more = units if line is mine else 0.0
            return (line.units + more) / line.weight, line is mine

        return max(self.lines.values(), key=held)

    def forget_idle(self, most: int) -> None:
        """Forgets who does not wait and would begin anew anyway, if there are more than `most`."""
        if len(self.lines) <= most:
            return
        if not any(self._waiting()):
            self._now = max(line.done for line in self.lines.values())
        self.lines = {
            key: line for key, line in self.lines.items() if line.count or line.done > self._now
        }

    def _waiting(self) -> Iterator[Line]:
        return (line for line in self.lines.values() if line.count)
