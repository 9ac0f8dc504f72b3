"""What comes over a stream is answered few at once, in order or as done, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.errors import InvalidInput
from gateway.streams import as_done, in_order, messages


class Source:
    """Counts from 0 and knows how far it was read."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.read = 0

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if self.read == self.end:
            raise StopAsyncIteration
        self.read += 1
        return self.read - 1


class Desk:
    """Work that ends when it is told to; knows what is being worked on and what was cancelled."""

    def __init__(self) -> None:
        self.working: set[int] = set()
        self.cancelled: set[int] = set()
        self._done: dict[int, asyncio.Event] = {}

    async def work(self, number: int) -> int:
        self.working.add(number)
        try:
            await self._event(number).wait()
        except asyncio.CancelledError:
            self.cancelled.add(number)
            raise
        finally:
            self.working.discard(number)
        return number * 10

    def finish(self, number: int) -> None:
        self._event(number).set()

    def _event(self, number: int) -> asyncio.Event:
        return self._done.setdefault(number, asyncio.Event())


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_keep_the_order_of_the_items() -> None:
    desk = Desk()
    answers = in_order(Source(3), desk.work, at_once=3)
    first = asyncio.ensure_future(anext(answers))
    desk.finish(2)
    desk.finish(1)
    await settle()

    assert not first.done()

    desk.finish(0)
    assert await first == 0
    assert [answer async for answer in answers] == [10, 20]


async def test_no_more_is_read_than_is_worked_on() -> None:
    desk, source = Desk(), Source(100)
    answers = in_order(source, desk.work, at_once=2)
    first = asyncio.ensure_future(anext(answers))
    await settle()

    assert (source.read, desk.working) == (2, {0, 1})

    desk.finish(1)
    await settle()

    # Its answer waits for that of 0 and keeps its place meanwhile.
    assert (source.read, desk.working) == (2, {0})

    desk.finish(0)
    assert await first == 0
    assert await anext(answers) == 10
    await answers.aclose()


async def test_nothing_is_read_ahead_while_an_answer_waits_to_be_taken() -> None:
    source = Source(100)

    async def at_once(number: int) -> int:
        return number

    answers = in_order(source, at_once, at_once=2)
    assert await anext(answers) == 0
    await settle()

    assert source.read <= 3
    await answers.aclose()


async def test_an_answer_is_not_kept_back_until_the_next_item_comes() -> None:
    silent: asyncio.Queue[int] = asyncio.Queue()
    silent.put_nowait(7)

    async def items() -> AsyncIterator[int]:
        while True:
            yield await silent.get()

    async def work(number: int) -> int:
        return number

    answers = in_order(items(), work, at_once=2)

    assert await anext(answers) == 7
    await answers.aclose()


async def test_closing_it_cancels_what_is_under_way() -> None:
    desk, source = Desk(), Source(100)
    desk.finish(0)
    answers = in_order(source, desk.work, at_once=2)
    assert await anext(answers) == 0
    waiting = asyncio.ensure_future(anext(answers))
    await settle()

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert desk.working == set()
    assert desk.cancelled == {1, 2}


async def test_what_the_work_raises_ends_it_and_the_rest() -> None:
    desk = Desk()

    async def work(number: int) -> int:
        if number == 0:
            raise RuntimeError("no")
        return await desk.work(number)

    answers = in_order(Source(5), work, at_once=2)

    with pytest.raises(RuntimeError, match="no"):
        await anext(answers)
    assert desk.working == set()


async def test_what_the_items_raise_ends_it() -> None:
    async def items() -> AsyncIterator[int]:
        yield 0
        raise RuntimeError("lost")

    async def work(number: int) -> int:
        return number

    with pytest.raises(RuntimeError, match="lost"):
        [answer async for answer in in_order(items(), work, at_once=2)]


async def test_no_items_are_no_answers() -> None:
    assert [answer async for answer in in_order(Source(0), Desk().work, at_once=2)] == []


async def test_answers_come_as_they_are_done() -> None:
    desk, source = Desk(), Source(3)
    answers = as_done(source, desk.work, at_once=2)
    first = asyncio.ensure_future(anext(answers))
    await settle()
    assert (source.read, desk.working) == (2, {0, 1})

    desk.finish(1)
    assert await first == 10
    desk.finish(2)
    assert await anext(answers) == 20
    desk.finish(0)
    assert [answer async for answer in answers] == [0]


async def test_an_answer_that_is_not_taken_keeps_its_place_in_the_count() -> None:
    source = Source(100)

    async def work(number: int) -> int:
        return number

    answers = as_done(source, work, at_once=2)
    assert await anext(answers) == 0
    await settle()

    assert source.read <= 3
    await answers.aclose()


async def test_closing_a_stream_of_answers_as_they_are_done_cancels_the_rest() -> None:
    desk = Desk()
    desk.finish(3)
    answers = as_done(Source(100), desk.work, at_once=4)
    assert await anext(answers) == 30

    await answers.aclose()

    assert desk.working == set()
    assert desk.cancelled == {0, 1, 2}


async def test_a_message_that_cannot_be_read_is_an_error_in_its_place() -> None:
    bad = InvalidInput("NOT_UTF8", "is not UTF-8", field="query")

    class Incoming:
        def __init__(self) -> None:
            self.left: list[str | InvalidInput] = ["a", bad, "b"]

        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            message = self.left.pop(0)
            if isinstance(message, InvalidInput):
                raise message
            return message

    assert [each async for each in messages(Incoming())] == ["a", bad, "b"]
