"""The adaptive limit, against a simulated service: same seed, same numbers, no clock."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.limiter import FIRST_LIMIT, LEAST_LIMIT, WINDOW_SAMPLES, Limiter
from gateway.waiting_room import WaitingRoom

PROCESSORS = 2
SERVICE_SECONDS = 0.025
CAPACITY = PROCESSORS / SERVICE_SECONDS


@dataclass
class Service:
    """Some processors behind a limit and a short queue; what finds no room is shed at once."""

    limiter: Limiter
    random: Random = field(default_factory=lambda: Random(1))
    service_seconds: float = SERVICE_SECONDS
    processors: int = PROCESSORS
    now: float = 0.0
    running: list[tuple[float, float, float]] = field(default_factory=list)
    backlog: deque[tuple[float, float]] = field(default_factory=deque)
    queue: deque[float] = field(default_factory=deque)
    room: WaitingRoom = field(default_factory=lambda: WaitingRoom(0.0))
    shed: int = 0

    def send(self, per_second: float, seconds: float) -> list[float]:
        """Arrivals at random, whatever becomes of them; seconds from arrival to answer."""
        answered: list[float] = []
        end, arrival = self.now + seconds, self.now
        while (arrival := arrival + self.random.expovariate(per_second)) < end:
            self._run_until(arrival, answered)
            self._arrive(arrival)
        self._run_until(end, answered)
        return answered

    def _arrive(self, arrival: float) -> None:
        if self._taken < self.limiter.limit and not self.queue:
            self._begin(arrival, arrival)
        elif self._has_room(arrival):
            if not self.queue:
                self.room.opened(arrival)
            self.queue.append(arrival)
        else:
            self.shed += 1
            self.room.refused(1, self.limiter.rate, arrival)

    def _has_room(self, now: float) -> bool:
        waiting, limiter = len(self.queue), self.limiter
        return self.room.has_room(
            1, places=waiting, waiting=waiting, limit=limiter.limit, rate=limiter.rate, now=now
        )

    @property
    def _taken(self) -> int:
        return len(self.running) + len(self.backlog)

    def _begin(self, arrival: float, admitted: float) -> None:
        self.backlog.append((arrival, admitted))
        self._work()

    def _work(self) -> None:
        while self.backlog and len(self.running) < self.processors:
            arrival, admitted = self.backlog.popleft()
            seconds = self.service_seconds * self.random.uniform(0.5, 1.5)
            heapq.heappush(self.running, (self.now + seconds, arrival, admitted))

    def _run_until(self, end: float, answered: list[float]) -> None:
        while self.running and self.running[0][0] <= end:
            taken = self._taken
            self.now, arrival, admitted = heapq.heappop(self.running)
            answered.append(self.now - arrival)
            self.limiter.finished("search", 1, self.now - admitted, taken=taken, now=self.now)
            self._work()
            while self.queue and self._taken < self.limiter.limit:
                self._begin(self.queue.popleft(), self.now)
        self.now = end


@pytest.fixture
def service() -> Service:
    return Service(Limiter(64, now=0.0))


def p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


def test_three_times_the_capacity_costs_neither_time_nor_answers(service: Service) -> None:
    usual = p99(service.send(0.7 * CAPACITY, 60))

    flooded = service.send(3 * CAPACITY, 60)

    assert p99(flooded) <= 2 * usual
    assert len(flooded) >= 0.95 * 60 * CAPACITY


def test_all_is_as_before_soon_after_a_flood(service: Service) -> None:
    before = p99(service.send(0.7 * CAPACITY, 60))
    service.send(3 * CAPACITY, 60)
    service.send(0.7 * CAPACITY, 2)
    service.shed = 0

    after = service.send(0.7 * CAPACITY, 60)

    assert p99(after) <= 1.25 * before
    assert service.shed <= 0.03 * len(after)


def test_a_flood_that_lasts_does_not_become_usual(service: Service) -> None:
    service.send(0.7 * CAPACITY, 60)
    first = p99(service.send(3 * CAPACITY, 60))
    service.send(3 * CAPACITY, 200)

    last = p99(service.send(3 * CAPACITY, 60))

    assert last <= 1.1 * first


def test_a_service_that_becomes_slower_for_good_keeps_its_throughput(service: Service) -> None:
    service.send(0.7 * CAPACITY, 30)
    service.service_seconds *= 4
    service.send(CAPACITY, 60)

    answered = service.send(CAPACITY, 60)

    assert len(answered) >= 0.95 * 60 * CAPACITY / 4


def test_more_processors_get_a_higher_limit() -> None:
    few = Service(Limiter(500, now=0.0))
    many = Service(Limiter(500, now=0.0), processors=32)
    for service in (few, many):
        service.send(3 * service.processors / SERVICE_SECONDS, 60)

    assert many.limiter.limit > 32 > few.limiter.limit


def feed(
    limiter: Limiter, kind: str, seconds: float, taken: Callable[[], float], start: float
) -> float:
    """One second of samples of one kind; returns when it ended."""
    for number in range(100):
        limiter.finished(kind, 1, seconds, taken=taken(), now=start + (number + 1) / 100)
    return start + 1


def test_kinds_are_compared_with_themselves_only() -> None:
    limiter = Limiter(64, now=0.0)
    now = feed(limiter, "page", 0.001, lambda: 1, 0.0)

    feed(limiter, "rerank", 1.0, lambda: limiter.limit, now)

    assert limiter.usual_seconds("page") == pytest.approx(0.001)
    assert limiter.usual_seconds("rerank") == pytest.approx(1.0)
    assert limiter.limit > FIRST_LIMIT


def test_the_limit_stands_while_there_is_room() -> None:
    limiter = Limiter(64, now=0.0)
    now = feed(limiter, "search", 0.01, lambda: 1, 0.0)

    feed(limiter, "search", 0.1, lambda: limiter.limit / 2 - 1, now)

    assert limiter.limit == FIRST_LIMIT


def test_the_limit_stays_within_its_bounds() -> None:
    limiter = Limiter(20, now=0.0)
    now = 0.0
    for _ in range(20):
        now = feed(limiter, "search", 0.01, lambda: limiter.limit, now)
    assert limiter.limit == 20

    seconds = 0.01
    for _ in range(20):
        seconds *= 2
        now = feed(limiter, "search", seconds, lambda: limiter.limit, now)
        assert limiter.limit >= LEAST_LIMIT
    assert limiter.limit < 20


def test_few_samples_say_nothing_before_some_time_is_over() -> None:
    limiter = Limiter(64, now=0.0)
    for number in range(WINDOW_SAMPLES - 1):
        limiter.finished("search", 1, 0.01, taken=64, now=number / 10)
    assert limiter.usual_seconds("search") == 0

    limiter.finished("search", 1, 0.01, taken=64, now=WINDOW_SAMPLES / 10)

    assert limiter.usual_seconds("search") == pytest.approx(0.01)
    assert limiter.rate == pytest.approx(WINDOW_SAMPLES / (WINDOW_SAMPLES / 10))
