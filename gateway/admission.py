"""Sheds load before any work is done for it, and shares what there is among callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from core.deadline import Deadline
from core.errors import BadEnvironment, Overloaded, Unreachable
from core.security.caller import current_caller
from gateway.fair_queue import Entry, FairQueue
from gateway.limiter import Limiter
from gateway.metrics import GatewayMetrics
from gateway.waiting_room import WaitingRoom
from gateway.work import Work

# Why work is shed.
FULL = "FULL"
DISPLACED = "DISPLACED"
DEADLINE = "DEADLINE"


@dataclass(eq=False, slots=True)
class _Waiting(Entry):
    """An entry that knows until when it is worth beginning, and whom to tell."""

    deadline: Deadline = field(kw_only=True)
    turn: asyncio.Future[None] = field(kw_only=True)


@dataclass(slots=True)
class Permit:
    """What work holds while it is under way; it is not `usual` if its time tells nothing of load.

    As that of a search which waited for a peer that hangs, or did without it.
    """

    usual: bool = True


class Admission:
    """Permits for units of work: as many as `Limiter` finds right, `most` at most."""

    def __init__(
        self, most: int, metrics: GatewayMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if most < 1:
            raise BadEnvironment(
                f"{most} lets nothing in", field="max_concurrent_searches", remedy="give 1 or more"
            )
        self._clock = clock
        self._metrics = metrics
        self._limiter = Limiter(most, now=clock())
        self._queue = FairQueue()
        self._taken = 0.0
        self._room = WaitingRoom(clock())
        metrics.admission_limit.set_function(lambda: self._limiter.limit)

    @property
    def taken(self) -> float:
        """Units of work under way."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Pieces of work that wait."""
        return len(self._queue)

    @asynccontextmanager
    async def admit(self, work: Work, deadline: Deadline) -> AsyncIterator[Permit]:
        """Holds permits for `work`, after a short wait if need be.

        Raises Overloaded at once if the queue is full or takes longer than `deadline` allows, and
        later if a caller or lane with a larger share needs the place.
        """
        if self._is_free():
            self._take(work)
        else:
            self._check_in_time(work, deadline)
            entry = self._entry(work, deadline)
            self._make_room(entry)
            await self._wait(entry)
        with self._holding(work) as permit:
            yield permit

    @asynccontextmanager
    async def turn(self, work: Work, deadline: Deadline) -> AsyncIterator[Permit]:
        """Holds permits for work whose sender is held back meanwhile.

        Waits as long as `deadline` allows, however long the queue is; raises Overloaded if that
        was in vain.
        """
        if self._is_free():
            self._take(work)
        else:
            await self._wait(self._entry(work, deadline, fixed=True))
        with self._holding(work) as permit:
            yield permit

    @contextmanager
    def spare(self, work: Work) -> Iterator[None]:
        """Holds permits that nobody waits for; raises Overloaded if there are none."""
        if not self._is_free():
            raise self._overloaded(work)
        self._take(work)
        with self._holding(work):
            yield

    def _is_free(self) -> bool:
        return not self._queue and self._taken < self._limiter.limit

    def _entry(self, work: Work, deadline: Deadline, *, fixed: bool = False) -> _Waiting:
        caller = current_caller()
        turn = asyncio.get_running_loop().create_future()
        return _Waiting(work, caller.name, caller.weight, fixed, deadline=deadline, turn=turn)

    def _check_in_time(self, work: Work, deadline: Deadline) -> None:
        rate = self._limiter.rate
        if rate and self._queue.units / rate >= deadline.remaining():
            raise self._shed(work, DEADLINE)

    def _make_room(self, entry: _Waiting) -> None:
        """Sheds what holds more than its share until `entry` has room; or else `entry`."""
        while not self._has_room(entry.work):
            other = self._queue.displaced_by(entry)
            if not isinstance(other, _Waiting):
                raise self._shed(entry.work, FULL)
            self._leave(other)
            other.turn.set_exception(self._shed(other.work, DISPLACED))

    def _has_room(self, work: Work) -> bool:
        return self._room.has_room(
            work.units,
            places=self._queue.places,
            waiting=self._queue.units,
            limit=self._limiter.limit,
            rate=self._limiter.rate,
            now=self._clock(),
        )

    async def _wait(self, entry: _Waiting) -> None:
        """Returns once permits were taken for the entry."""
        if not self._queue.places:
            self._room.opened(self._clock())
        self._queue.push(entry)
        self._metrics.waiting(entry.work.lane.value).inc()
        began = self._clock()
        try:
            async with asyncio.timeout(entry.deadline.remaining()):
                await entry.turn
        except BaseException as error:
            if entry.turn.cancelled():
                self._leave(entry)
            elif entry.turn.exception() is None:
                self._give_back(entry.work)
            if isinstance(error, TimeoutError):
                raise self._shed(entry.work, DEADLINE) from error
            raise
        self._metrics.admission_wait_seconds(entry.work.lane.value).observe(self._clock() - began)

    def _leave(self, entry: _Waiting) -> None:
        self._queue.remove(entry)
        self._metrics.waiting(entry.work.lane.value).dec()

    def _let_in(self) -> None:
        """Gives free permits to those who wait."""
        while self._queue and self._taken < self._limiter.limit:
            entry = self._queue.pop()
            assert isinstance(entry, _Waiting)
            self._metrics.waiting(entry.work.lane.value).dec()
            if not entry.deadline.remaining():
                entry.turn.set_exception(self._shed(entry.work, DEADLINE))
                continue
            self._take(entry.work)
            entry.turn.set_result(None)

    @contextmanager
    def _holding(self, work: Work) -> Iterator[Permit]:
        """Measures work for which permits were taken, and gives them back."""
        permit = Permit()
        began = self._clock()
        try:
            yield permit
        except Unreachable:
            raise
        except BaseException:
            # What was given up says only that it would have taken longer.
            if self._clock() - began > self._limiter.usual_seconds(work.kind):
                self._measure(work, permit, began)
            raise
        else:
            self._measure(work, permit, began)
        finally:
            self._give_back(work)

    def _measure(self, work: Work, permit: Permit, began: float) -> None:
        kind, now = work.kind if permit.usual else "", self._clock()
        self._limiter.finished(kind, work.units, now - began, taken=self._taken, now=now)

    def _take(self, work: Work) -> None:
        self._taken += work.units
        self._metrics.admitted(work.lane.value).inc(work.units)

    def _give_back(self, work: Work) -> None:
        self._taken -= work.units
        self._metrics.admitted(work.lane.value).dec(work.units)
        self._let_in()

    def _shed(self, work: Work, why: str) -> Overloaded:
        self._metrics.shed(work.lane.value, why).inc()
        self._room.refused(work.units, self._limiter.rate, self._clock())
        return self._overloaded(work)

    def _overloaded(self, work: Work) -> Overloaded:
        return Overloaded(
            f"{self._taken:g} units of work are under way and {self._queue.units:g} wait",
            retry_after_seconds=self._room.retry_seconds(self._limiter.rate, self._clock()),
        )

    def __repr__(self) -> str:
        limit = self._limiter.limit
        return f"<Admission {self._taken:g} of {limit:g} units taken, {len(self._queue)} wait>"
