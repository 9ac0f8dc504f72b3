"""Who is taken for silent, and for how long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from gateway.circuit import LEAST_PATIENCE_SECONDS, TOGETHER_SECONDS, UNANSWERED_CALLS, Circuit
from gateway.pulse import ALIVE_SECONDS, Pulse
from gateway.recent import KEPT, Recent

PATIENCE = 2 * LEAST_PATIENCE_SECONDS


def unanswered(circuit: Circuit, times: int, *, apart: float = 2 * TOGETHER_SECONDS) -> list[bool]:
    return [circuit.unanswered(PATIENCE, now=n * apart) for n in range(times)]


def test_calls_unanswered_in_a_row_begin_a_silence_once() -> None:
    circuit = Circuit()

    begins = unanswered(circuit, UNANSWERED_CALLS + 2)

    assert begins == [False] * (UNANSWERED_CALLS - 1) + [True, False, False]
    assert circuit.silent


def test_an_answer_between_ends_the_row() -> None:
    circuit = Circuit()

    for n in range(10 * UNANSWERED_CALLS):
        circuit.unanswered(PATIENCE, now=float(n))
        if n % 2:
            circuit.answered()

    assert not circuit.silent


def test_an_answer_ends_a_silence_once() -> None:
    circuit = Circuit()
    unanswered(circuit, UNANSWERED_CALLS)

    assert circuit.answered()
    assert not circuit.silent
    assert not circuit.answered()


def test_calls_given_up_together_are_one() -> None:
    circuit = Circuit()

    unanswered(circuit, 10 * UNANSWERED_CALLS, apart=0.0)

    assert not circuit.silent


def test_an_impatient_caller_says_nothing_about_a_peer() -> None:
    circuit = Circuit()

    for n in range(10):
        circuit.unanswered(LEAST_PATIENCE_SECONDS / 2, now=float(n))

    assert not circuit.silent


async def test_a_silent_peer_is_probed_until_it_answers() -> None:
    answers = iter([False, False, True])
    probed = asyncio.Event()

    async def probe(seconds: float) -> bool:
        answer = next(answers)
        if answer:
            probed.set()
        return answer

    gauge = Gauge("silent", "test", ("peer",), registry=CollectorRegistry())
    pulse = Pulse("shard", probe, gauge, clock=itertools.count(1.0).__next__)

    for _ in range(UNANSWERED_CALLS):
        pulse.overtaken()
    assert pulse.silent
    assert gauge.labels("shard")._value.get() == 1
    await probed.wait()
    await pulse.stop()

    assert not pulse.silent
    assert gauge.labels("shard")._value.get() == 0


class Listened:
    """A peer that a pulse listens to, and what becomes of who waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.pulse.QUIET_SECONDS", 0.0)
        self.now = 0.0
        self.is_waited_for = True
        self.asked = 0
        self.given_up = asyncio.Event()
        self.gauge = Gauge("silent", "test", ("peer",), registry=CollectorRegistry())
        self.pulse = Pulse("shard", self.ask, self.gauge, clock=lambda: self.now)
        self.seconds_asked = ALIVE_SECONDS
        self.is_there = False

    async def ask(self, seconds: float) -> bool:
        if self.pulse.silent:
            await asyncio.Event().wait()
        self.asked += 1
        self.now += self.seconds_asked
        return self.is_there

    async def asked_often(self) -> None:
        """Returns once the peer was asked whether it is there some times more."""
        wanted = self.asked + 5
        async with asyncio.timeout(20):
            while self.asked < wanted:
                await asyncio.sleep(0)

    def listen(self) -> None:
        self.pulse.listen(lambda: self.is_waited_for, self.given_up.set)

    async def gives_up(self) -> None:
        async with asyncio.timeout(20):
            await self.given_up.wait()


@pytest.fixture
async def listened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listened]:
    made = Listened(monkeypatch)
    yield made
    await made.pulse.stop()


async def test_a_peer_that_is_not_there_is_given_up(listened: Listened) -> None:
    listened.listen()
    await listened.gives_up()

    assert listened.pulse.silent
    assert listened.pulse.silent_seconds == pytest.approx(ALIVE_SECONDS)
    assert listened.gauge.labels("shard")._value.get() == 1


async def test_a_peer_that_is_there_may_take_its_time(listened: Listened) -> None:
    listened.is_there = True
    listened.listen()

    await listened.asked_often()

    assert not listened.pulse.silent
    assert not listened.given_up.is_set()


async def test_a_peer_that_nobody_waits_for_is_not_asked(listened: Listened) -> None:
    listened.is_waited_for = False
    listened.listen()

    for _ in range(100):
        await asyncio.sleep(0)

    assert listened.asked == 0


async def test_who_was_held_up_himself_does_not_blame_the_peer(listened: Listened) -> None:
    listened.seconds_asked = 2 * ALIVE_SECONDS
    listened.listen()

    await listened.asked_often()
    assert not listened.pulse.silent
    listened.seconds_asked = ALIVE_SECONDS
    await listened.gives_up()

    assert listened.pulse.silent


def test_recent_is_a_quantile_of_the_last_measurements() -> None:
    recent = Recent(0.95, assumed=7.0)
    assert recent.value == 7.0

    for measured in range(1, 101):
        recent.observe(measured)
    assert recent.value >= 0.95 * 80  # looked at anew every 16 measurements at least
    for _ in range(KEPT):
        recent.observe(3.0)

    assert recent.value == 3.0


def test_recent_keeps_its_last_measurement() -> None:
    recent = Recent(0.1, assumed=7.0)
    recent.observe(1.0)
    recent.observe(2.0)

    recent.forget_least()
    recent.forget_least()

    assert recent.value == recent.greatest == 2.0
