"""Permits: work is let in, waits a little or is sent away, and each caller has its share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from core.deadline import Deadline
from core.errors import BadEnvironment, Overloaded, ShardUnavailable
from core.security.caller import Caller, set_caller
from gateway.admission import Admission
from gateway.lanes import Lane
from gateway.metrics import GatewayMetrics
from gateway.waiting_room import (
    BURST_SECONDS,
    FLOOD_SECONDS,
    LEAST_WAITING,
    MOST_RETRY_SECONDS,
    MOST_WAITING,
    QUEUE_SHARE,
)
from gateway.work import Work

SOON = 30.0
ONE = Work("search")
NOT_MEASURED = Work("")
PERMITS = 4
LONGER = 2 * BURST_SECONDS


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(metrics: GatewayMetrics, clock: Clock) -> Admission:
    """Four permits, and the least that may wait in any case."""
    return Admission(PERMITS, metrics, clock=clock)


@contextmanager
def full(
    admission: Admission, work: Work = NOT_MEASURED, permits: int = PERMITS
) -> Iterator[ExitStack]:
    """All permits are taken; the stack gives them back."""
    with ExitStack() as held:
        for _ in range(permits):
            held.enter_context(admission.spare(work))
        yield held


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ask(
    admission: Admission,
    done: list[str],
    name: str,
    work: Work = ONE,
    *,
    seconds: float = SOON,
    patient: bool = False,
) -> asyncio.Task[None]:
    """A task of the caller `name` that has asked for permits; it gives them back at once."""

    async def go() -> None:
        set_caller(Caller(name))
        wait = admission.turn if patient else admission.admit
        async with wait(work, Deadline.after(seconds)):
            done.append(name)

    task = asyncio.create_task(go())
    await settle()
    return task


def shed(metrics: GatewayMetrics, lane: Lane, reason: str) -> float:
    labels = {"lane": lane.value, "reason": reason}
    return metrics.registry.get_sample_value("trireme_gateway_shed_total", labels) or 0.0


def test_a_gateway_that_lets_nothing_in_does_not_start(metrics: GatewayMetrics) -> None:
    with pytest.raises(BadEnvironment, match="max_concurrent_searches: 0 lets nothing in"):
        Admission(0, metrics)


async def test_what_finds_a_permit_is_let_in_at_once(admission: Admission) -> None:
    async with admission.admit(ONE, Deadline.after(SOON)):
        assert repr(admission) == "<Admission 1 of 4 units taken, 0 wait>"

    assert repr(admission) == "<Admission 0 of 4 units taken, 0 wait>"


async def test_a_few_wait_and_the_next_is_sent_away_at_once(
    admission: Admission, metrics: GatewayMetrics, clock: Clock
) -> None:
    done: list[str] = []
    with full(admission):
        waiting = [await ask(admission, done, "a") for _ in range(LEAST_WAITING)]
        clock.now += LONGER
        refused = await ask(admission, done, "a")
        assert refused.done()
        assert not any(task.done() for task in waiting)

    await asyncio.gather(*waiting)
    with pytest.raises(Overloaded):
        await refused
    assert done == ["a"] * LEAST_WAITING
    assert shed(metrics, Lane.INTERACTIVE, "FULL") == 1


async def test_many_at_one_moment_all_wait(
    admission: Admission, metrics: GatewayMetrics, clock: Clock
) -> None:
    done: list[str] = []
    with full(admission):
        first = await ask(admission, done, "a")
        clock.now += BURST_SECONDS
        burst = [await ask(admission, done, "a") for _ in range(MOST_WAITING - 1)]
        refused = await ask(admission, done, "a")
        assert refused.done()

    await asyncio.gather(first, *burst)
    with pytest.raises(Overloaded):
        await refused
    assert len(done) == MOST_WAITING


async def test_a_new_caller_gets_the_place_of_one_that_holds_them_all(
    admission: Admission, metrics: GatewayMetrics, clock: Clock
) -> None:
    done: list[str] = []
    with full(admission):
        *others, newest = [await ask(admission, done, "greedy") for _ in range(LEAST_WAITING)]
        clock.now += LONGER
        modest = await ask(admission, done, "modest")

    await asyncio.gather(*others, modest)
    with pytest.raises(Overloaded):
        await newest
    assert done.index("modest") == 1
    assert shed(metrics, Lane.INTERACTIVE, "DISPLACED") == 1


async def test_people_go_before_jobs(admission: Admission) -> None:
    done: list[str] = []
    job, person = Work("search", 1, Lane.BATCH), Work("search", 1, Lane.INTERACTIVE)
    with full(admission) as held:
        tasks = [
            await ask(admission, done, "job", job),
            await ask(admission, done, "job", job, patient=True),
            await ask(admission, done, "person", person),
        ]
        held.close()
        await settle()

    await asyncio.gather(*tasks)
    assert done.index("person") < 2


async def test_dear_work_takes_more_permits(admission: Admission) -> None:
    done: list[str] = []
    async with admission.admit(Work("rerank", 4), Deadline.after(SOON)):
        waiting = await ask(admission, done, "a")
        assert repr(admission) == "<Admission 4 of 4 units taken, 1 wait>"

    await waiting


async def test_who_cannot_be_answered_in_time_is_told_at_once(
    admission: Admission, metrics: GatewayMetrics, clock: Clock
) -> None:
    for _ in range(20):
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.5
    done: list[str] = []
    with full(admission):
        waiting = await ask(admission, done, "a")
        # One unit waits, and two are done per second.
        hasty = await ask(admission, done, "b", seconds=0.4)
        assert hasty.done()

    await waiting
    with pytest.raises(Overloaded):
        await hasty
    assert shed(metrics, Lane.INTERACTIVE, "DEADLINE") == 1


async def test_what_waited_past_its_deadline_is_not_begun(
    admission: Admission, metrics: GatewayMetrics
) -> None:
    done: list[str] = []
    with full(admission):
        late = await ask(admission, done, "a", seconds=0.001, patient=True)
        with pytest.raises(Overloaded):
            await late

    assert done == []
    assert shed(metrics, Lane.INTERACTIVE, "DEADLINE") == 1
    assert repr(admission) == "<Admission 0 of 4 units taken, 0 wait>"


async def test_who_goes_away_while_waiting_takes_nothing_with_it(admission: Admission) -> None:
    done: list[str] = []
    with full(admission) as held:
        gone = await ask(admission, done, "a")
        let_in = await ask(admission, done, "b")
        gone.cancel()
        await settle()
        # The permit is given in the same moment in which its caller goes away.
        held.close()
        let_in.cancel()
        await settle()

    assert gone.cancelled()
    assert let_in.cancelled()
    assert repr(admission) == "<Admission 0 of 4 units taken, 0 wait>"


async def test_who_is_held_back_waits_however_long_the_queue_is(admission: Admission) -> None:
    done: list[str] = []
    with full(admission):
        tasks = [await ask(admission, done, f"stream-{n}", patient=True) for n in range(9)]
        assert not any(task.done() for task in tasks)

    await asyncio.gather(*tasks)
    assert len(done) == 9


async def test_the_more_is_shed_the_later_one_is_to_come_back(
    admission: Admission, clock: Clock
) -> None:
    for _ in range(20):
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.1
    delays: list[float] = []
    with full(admission):
        waiting = [await ask(admission, [], "a") for _ in range(LEAST_WAITING)]
        clock.now += LONGER
        for _ in range(200):
            with pytest.raises(Overloaded) as refusal:
                await (await ask(admission, [], "a"))
            delays.append(refusal.value.retry_after_seconds)
    await asyncio.gather(*waiting)

    # Ten units are done per second: what was shed until now takes so long.
    assert delays[:20] == pytest.approx([max(0.1, (n + 1) / 10) for n in range(20)], rel=0.01)
    assert delays[-1] == MOST_RETRY_SECONDS


async def test_in_a_flood_few_wait_until_it_is_over(admission: Admission, clock: Clock) -> None:
    for _ in range(20):
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.1
    done: list[str] = []

    async def waiting() -> list[asyncio.Task[None]]:
        """Who of many that ask at one moment is not sent away."""
        tasks = [await ask(admission, done, "a") for _ in range(MOST_WAITING + 20)]
        return [task for task in tasks if not task.done() or task.exception() is None]

    with full(admission):
        first = await waiting()
    await asyncio.gather(*first)
    # Twenty were refused, which is what can be done in two seconds.
    clock.now += FLOOD_SECONDS
    with full(admission):
        in_flood = await waiting()
    await asyncio.gather(*in_flood)
    clock.now += 2 * FLOOD_SECONDS
    with full(admission):
        afterwards = await waiting()
    await asyncio.gather(*afterwards)

    assert len(first) == len(afterwards) == MOST_WAITING
    assert len(in_flood) == QUEUE_SHARE * PERMITS


async def test_work_that_a_peer_left_waiting_tells_nothing_of_load(
    metrics: GatewayMetrics, clock: Clock
) -> None:
    admission = Admission(9, metrics, clock=clock)
    for _ in range(20):
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.1
    before = repr(admission)

    async def wait_in_vain(seconds: float) -> None:
        async with admission.admit(ONE, Deadline.after(SOON)) as permit:
            clock.now += seconds
            permit.usual = False

    async def fail(seconds: float) -> None:
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += seconds
            raise ShardUnavailable("is not answering")

    # Longer than usual while it hangs, shorter once nobody waits for it.
    for seconds in (1.0, 0.001):
        with full(admission, permits=8):
            for _ in range(1000):
                await wait_in_vain(seconds)
                with pytest.raises(ShardUnavailable):
                    await fail(seconds)
    for _ in range(20):
        with full(admission, ONE, 9):
            clock.now += 0.1

    assert repr(admission) == before


async def test_failures_do_not_pass_for_fast_answers(metrics: GatewayMetrics, clock: Clock) -> None:
    admission = Admission(9, metrics, clock=clock)
    for _ in range(20):
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.1
    before = repr(admission)

    async def fail() -> None:
        async with admission.admit(ONE, Deadline.after(SOON)):
            clock.now += 0.001
            raise ValueError("bad")

    for _ in range(1000):
        with pytest.raises(ValueError, match="bad"):
            await fail()
    for _ in range(20):
        with full(admission, ONE, 9):
            clock.now += 0.1

    assert repr(admission) == before
