"""A batch gets done with one permit, and faster with more."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial

import pytest

from core.deadline import Deadline
from core.errors import Overloaded
from gateway.admission import Admission
from gateway.batch import side_by_side
from gateway.metrics import GatewayMetrics
from gateway.waiting_room import MOST_WAITING
from gateway.work import Work

SOON = 30.0


class Desk:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.working: set[int] = set()
        self._done: dict[int, asyncio.Event] = {}

    async def work(self, number: int) -> int:
        self.working.add(number)
        try:
            await self._done.setdefault(number, asyncio.Event()).wait()
        finally:
            self.working.discard(number)
        return number * 10

    def finish(self, *numbers: int) -> None:
        for number in numbers:
            self._done.setdefault(number, asyncio.Event()).set()


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def begin(
    desk: Desk, admission: Admission, count: int, at_once: int = 4
) -> asyncio.Task[list[int]]:
    works = [partial(desk.work, number) for number in range(count)]

    async def go() -> list[int]:
        async with admission.admit(Work(), Deadline.after(SOON)):
            spare = partial(admission.spare, Work())
            return await side_by_side(works, spare, at_once=at_once)

    return asyncio.create_task(go())


def permits(count: int) -> Admission:
    return Admission(count, GatewayMetrics())


async def test_answers_keep_the_order_of_the_works() -> None:
    desk = Desk()
    batch = begin(desk, permits(10), 6)
    for number in (3, 1, 5, 0, 4, 2):
        desk.finish(number)
        await settle()

    assert await batch == [0, 10, 20, 30, 40, 50]


async def test_no_more_are_under_way_than_allowed_and_each_holds_a_permit() -> None:
    desk, admission = Desk(), permits(10)
    batch = begin(desk, admission, 9, at_once=4)
    await settle()

    assert desk.working == {0, 1, 2, 3}
    assert repr(admission) == "<Admission 4 of 10 units taken, 0 wait>"

    desk.finish(*range(9))
    await batch
    assert repr(admission) == "<Admission 0 of 10 units taken, 0 wait>"


async def test_with_one_permit_it_goes_on_one_by_one_and_side_by_side_once_more_are_free() -> None:
    desk, admission = Desk(), permits(3)
    with ExitStack() as others:
        others.enter_context(admission.spare(Work()))
        others.enter_context(admission.spare(Work()))
        batch = begin(desk, admission, 5)
        await settle()
        assert desk.working == {0}

        desk.finish(0)
        await settle()
        assert desk.working == {1}

    desk.finish(1)
    await settle()
    assert desk.working == {2, 3, 4}

    desk.finish(2, 3, 4)
    assert await batch == [0, 10, 20, 30, 40]


async def test_without_a_permit_it_waits_or_is_refused_and_nothing_is_begun() -> None:
    desk, admission = Desk(), permits(1)

    with admission.spare(Work()):
        waiting = [begin(desk, admission, 3) for _ in range(MOST_WAITING)]
        await settle()
        with pytest.raises(Overloaded):
            await begin(desk, admission, 3)
        assert desk.working == set()

    desk.finish(0, 1, 2)
    await asyncio.gather(*waiting)


async def test_cancelling_it_ends_all_of_it_and_gives_the_permits_back() -> None:
    desk, admission = Desk(), permits(10)
    batch = begin(desk, admission, 9)
    await settle()

    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    await settle()

    assert desk.working == set()
    assert repr(admission) == "<Admission 0 of 10 units taken, 0 wait>"


async def test_a_batch_that_is_cancelled_before_its_lanes_begin_gives_their_permits_back() -> None:
    desk, admission = Desk(), permits(10)
    batch = begin(desk, admission, 9)
    await asyncio.sleep(0)
    assert desk.working == {0}

    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    await settle()

    assert repr(admission) == "<Admission 0 of 10 units taken, 0 wait>"
