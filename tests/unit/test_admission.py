"""Permits: whoever finds none is sent away, or waits in line if it may."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from core.deadline import Deadline
from core.errors import Overloaded
from gateway.admission import Admission

SOON = 30.0


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def take_turns(
    admission: Admission, names: str, taken: list[str]
) -> list[asyncio.Task[None]]:
    """One waiting task per name, in that order, each of which gives its permit back at once."""

    async def take(name: str) -> None:
        async with admission.turn(Deadline.after(SOON)):
            taken.append(name)

    tasks = [asyncio.create_task(take(name)) for name in names]
    await settle()
    return tasks


def test_without_a_permit_one_is_sent_away_at_once() -> None:
    admission = Admission(1)

    with admission.permit(), pytest.raises(Overloaded), admission.permit():
        pass

    with admission.permit():
        assert repr(admission) == "<Admission 1 of 1 permits taken>"


async def test_who_may_wait_gets_a_permit_in_the_order_of_asking() -> None:
    admission, taken = Admission(1), list[str]()
    with admission.permit():
        tasks = await take_turns(admission, "abc", taken)
        assert taken == []

    await asyncio.gather(*tasks)

    assert taken == ["a", "b", "c"]
    assert repr(admission) == "<Admission 0 of 1 permits taken>"


async def test_who_does_not_wait_overtakes_who_does() -> None:
    admission, taken = Admission(1), list[str]()
    with ExitStack() as first:
        first.enter_context(admission.permit())
        tasks = await take_turns(admission, "a", taken)
        first.close()
        with admission.permit():
            await settle()
            assert taken == []

    await asyncio.gather(*tasks)
    assert taken == ["a"]


async def test_who_stops_waiting_takes_nothing_with_it() -> None:
    admission, taken = Admission(1), list[str]()
    with admission.permit():
        a, b = await take_turns(admission, "ab", taken)
    a.cancel()

    await b

    assert taken == ["b"]
    assert repr(admission) == "<Admission 0 of 1 permits taken>"


async def test_waiting_ends_at_the_deadline() -> None:
    admission = Admission(0)

    with pytest.raises(Overloaded):
        async with admission.turn(Deadline.after(0.01)):
            pass
