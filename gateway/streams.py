"""Many requests over one stream: a few worked on at once, and none read before one is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from core.errors import InvalidInput

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def messages(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The messages of a stream; one that cannot be read is an InvalidInput in its place."""
    while True:
        try:
            yield await anext(requests)
        except StopAsyncIteration:
            return
        except InvalidInput as error:
            yield error


def in_order(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Answer]], *, at_once: int
) -> AsyncGenerator[Answer, None]:
    """`work` done on each item; the answers come in the order of the items.

    No more than `at_once` items are being worked on or waiting to be taken, and no further one is
    read meanwhile. What `items` or `work` raise ends it. When it ends, however, all work has ended.
    """
    return _answers(_Line(items, work, at_once, ordered=True))


def as_done(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Answer]], *, at_once: int
) -> AsyncGenerator[Answer, None]:
    """As `in_order`, but the answers come as soon as they are there."""
    return _answers(_Line(items, work, at_once, ordered=False))


async def _answers(line: _Line[Item, Answer]) -> AsyncGenerator[Answer, None]:
    try:
        while True:
            await line.move()
            if line.is_over:
                return
            if (done := line.next_done()) is not None:
                yield line.take(done)
    finally:
        await line.stop()


class _Line(Generic[Item, Answer]):
    """The tasks of one stream: one that reads, and the work in the order it was read."""

    def __init__(
        self,
        items: AsyncIterator[Item],
        work: Callable[[Item], Awaitable[Answer]],
        at_once: int,
        *,
        ordered: bool,
    ) -> None:
        self._items = items
        self._work = work
        self._at_once = at_once
        self._ordered = ordered
        self._reading: asyncio.Task[Item | None] | None = None
        self._working: deque[asyncio.Future[Answer]] = deque()
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether everything has been read and taken."""
        return self._ended and not self._working

    def next_done(self) -> asyncio.Future[Answer] | None:
        """The work whose answer may be taken now, if there is any."""
        return next((work for work in self._awaited() if work.done()), None)

    def take(self, done: asyncio.Future[Answer]) -> Answer:
        """The answer; raises what its work raised."""
        self._working.remove(done)
        return done.result()

    async def move(self) -> None:
        """Returns when an item was read, the items have ended or an answer may be taken."""
        if self._reading is None and not self._ended and len(self._working) < self._at_once:
            self._reading = asyncio.create_task(self._read())
        awaited = [task for task in (self._reading, *self._awaited()) if task is not None]
        if awaited:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if self._reading is not None and self._reading.done():
            reading, self._reading = self._reading, None
            self._begin(reading.result())

    async def stop(self) -> None:
        """Cancels what is under way and waits until it has ended."""
        tasks = [task for task in (self._reading, *self._working) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _awaited(self) -> list[asyncio.Future[Answer]]:
        """The work whose answers may be taken once they are there."""
        return list(self._working)[:1] if self._ordered else list(self._working)

    def _begin(self, item: Item | None) -> None:
        if item is None:
            self._ended = True
            return
        self._working.append(asyncio.ensure_future(self._work(item)))

    async def _read(self) -> Item | None:
        with suppress(StopAsyncIteration):
            return await anext(self._items)
        return None
