"""How far an index is behind, and how writers are held up by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.errors import InvalidInput, TriremeError
from indexer.clock import now_micros
from indexer.in_order import in_order
from indexer.lag import WINDOW_SECONDS, Lag

HOUR = 3600 * 1_000_000


def test_what_is_accepted_and_not_published_is_lag() -> None:
    lag = Lag()
    lag.accept(100)
    assert lag.changes == 0  # nobody knows yet what is published

    lag.publish(40)
    assert lag.changes == 100 - 40
    lag.accept(70)
    assert lag.changes == 100 - 40
    lag.publish(100)
    assert lag.changes == 0


def test_the_oldest_change_in_hand_gives_the_age() -> None:
    lag = Lag()
    lag.publish(0)
    assert lag.seconds() == 0
    lag.take(1, now_micros() - 2 * HOUR)
    lag.take(11, now_micros() - HOUR)

    assert lag.seconds() == pytest.approx(2 * 3600, rel=0.01)
    lag.publish(10)
    assert lag.seconds() == pytest.approx(3600, rel=0.01)
    lag.publish(20)
    assert lag.seconds() == 0


def test_changes_that_are_read_again_do_not_count_as_new() -> None:
    lag = Lag()
    lag.publish(20)
    lag.take(1, now_micros() - HOUR)  # an index built anew reads the feed from its start

    assert lag.seconds() == 0


def test_the_speed_is_that_of_the_last_minute() -> None:
    lag = Lag()
    lag.count(600, now=0.0)
    lag.count(300, now=50.0)

    assert lag.documents_per_second(50.0) == (600 + 300) / WINDOW_SECONDS
    assert lag.documents_per_second(WINDOW_SECONDS) == 300 / WINDOW_SECONDS
    assert lag.documents_per_second(50.0 + WINDOW_SECONDS) == 0


async def test_whoever_waits_goes_on_when_the_index_has_caught_up() -> None:
    lag = Lag()
    lag.publish(0)
    lag.accept(10)
    waiting = asyncio.create_task(lag.until_below(5))

    lag.publish(4)
    await asyncio.sleep(0)
    assert not waiting.done()
    lag.publish(6)

    await waiting


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def nothing() -> None:
    pass


async def test_answers_come_in_order_whichever_is_ready_first() -> None:
    finished = [asyncio.Event() for _ in range(4)]

    async def answer(number: int | TriremeError) -> int:
        assert isinstance(number, int)
        # Each waits for the one after it, but the last of those that are worked on at once.
        if number % 4 < 3:
            await finished[number % 4 + 1].wait()
        finished[number % 4].set()
        return number * 10

    answers = in_order(numbers(8), answer, ready=nothing, at_once=4)

    assert [each async for each in answers] == [number * 10 for number in range(8)]


async def test_no_more_is_read_than_is_worked_on() -> None:
    read: list[int] = []
    gate = asyncio.Event()

    async def requests() -> AsyncIterator[int]:
        for number in range(9):
            read.append(number)
            yield number

    async def answer(number: int | TriremeError) -> object:
        await gate.wait()
        return number

    answers = in_order(requests(), answer, ready=nothing, at_once=3)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(50):
        await asyncio.sleep(0)
    assert read == [0, 1, 2]

    gate.set()
    assert [await first, *[each async for each in answers]] == list(range(9))


async def test_nothing_is_read_until_there_is_room() -> None:
    room = asyncio.Event()
    read: list[int] = []

    async def requests() -> AsyncIterator[int]:
        read.append(0)
        yield 0

    async def ready() -> None:
        await room.wait()

    async def answer(number: int | TriremeError) -> object:
        return number

    answers = in_order(requests(), answer, ready=ready, at_once=2)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(50):
        await asyncio.sleep(0)
    assert read == []
    room.set()

    assert await first == 0
    assert [each async for each in answers] == []


class Broken:
    """A stream whose second request cannot be read."""

    def __init__(self) -> None:
        self.count = 0

    def __aiter__(self) -> Broken:
        return self

    async def __anext__(self) -> int:
        self.count += 1
        if self.count == 2:
            raise InvalidInput("MALFORMED", "unreadable", field="")
        if self.count > 3:
            raise StopAsyncIteration
        return self.count


async def test_a_request_that_cannot_be_read_is_answered_and_the_next_is_read() -> None:
    async def answer(request: int | TriremeError) -> str:
        return type(request).__name__

    answers = in_order(Broken(), answer, ready=nothing, at_once=2)

    assert [each async for each in answers] == ["int", "InvalidInput", "int"]


async def test_work_is_given_up_with_the_stream() -> None:
    ended: list[int] = []

    async def answer(number: int | TriremeError) -> int:
        assert isinstance(number, int)
        try:
            if number:
                await asyncio.Event().wait()
        finally:
            ended.append(number)
        return number

    answers = in_order(numbers(9), answer, ready=nothing, at_once=3)
    assert await anext(answers) == 0
    for _ in range(20):
        await asyncio.sleep(0)
    await answers.aclose()  # type: ignore[attr-defined]

    assert sorted(ended)[0] == 0
    assert len(ended) >= 1 + 2
