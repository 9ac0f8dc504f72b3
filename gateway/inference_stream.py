"""Many batches over one stream: a few worked on at once, answered in order, read no faster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def in_order(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Answer]], *, at_once: int
) -> AsyncGenerator[Answer, None]:
    """`work` done on each item; the answers come in the order of the items.

    No more than `at_once` items are being worked on or waiting to be taken, and no further one is
    read meanwhile. What `items` or `work` raise ends it. When it ends, however, all work has ended.
    """
    line = _Line(items, work, at_once)
    try:
        while True:
            await line.move()
            if line.is_over:
                return
            if line.head_is_done:
                yield line.pop()
    finally:
        await line.stop()


class _Line(Generic[Item, Answer]):
    """The tasks of one stream: one that reads, and the work in the order it was read."""

    def __init__(
        self,
        items: AsyncIterator[Item],
        work: Callable[[Item], Awaitable[Answer]],
        at_once: int,
    ) -> None:
        self._items = items
        self._work = work
        self._at_once = at_once
        self._reading: asyncio.Task[Item | None] | None = None
        self._working: deque[asyncio.Task[Answer]] = deque()
        self._ended = False

    @property
    def is_over(self) -> bool:
        """Whether everything has been read and taken."""
        return self._ended and not self._working

    @property
    def head_is_done(self) -> bool:
        """Whether the next answer is there."""
        return bool(self._working) and self._working[0].done()

    def pop(self) -> Answer:
        """The next answer; raises what its work raised."""
        return self._working.popleft().result()

    async def move(self) -> None:
        """Returns when an item was read, the items have ended or the next answer is there."""
        if self._reading is None and not self._ended and len(self._working) < self._at_once:
            self._reading = asyncio.create_task(self._read())
        awaited = [task for task in (self._reading, *list(self._working)[:1]) if task is not None]
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

    def _begin(self, item: Item | None) -> None:
        if item is None:
            self._ended = True
            return
        self._working.append(asyncio.ensure_future(self._work(item)))

    async def _read(self) -> Item | None:
        with suppress(StopAsyncIteration):
            return await anext(self._items)
        return None
