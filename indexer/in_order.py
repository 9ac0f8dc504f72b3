"""A stream of requests, several worked on at a time, answered in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from core.errors import TriremeError

Request = TypeVar("Request")
Response = TypeVar("Response")


async def in_order(
    requests: AsyncIterator[Request],
    answer: Callable[[Request | TriremeError], Coroutine[Any, Any, Response]],
    *,
    ready: Callable[[], Awaitable[None]],
    at_once: int,
) -> AsyncIterator[Response]:
    """The answer to each request, or to the error with which it could not be read.

    Up to `at_once` are worked on, begun in their order. The next one is read only when `ready`
    returns: until then flow control holds up a peer that goes on sending.
    """
    slots = asyncio.Semaphore(at_once)
    answers: asyncio.Queue[asyncio.Task[Response] | None] = asyncio.Queue()

    async def read() -> None:
        try:
            while True:
                await slots.acquire()
                await ready()
                try:
                    request: Request | TriremeError = await anext(requests)
                except StopAsyncIteration:
                    return
                except TriremeError as error:
                    request = error
                answers.put_nowait(asyncio.create_task(answer(request)))
        finally:
            answers.put_nowait(None)

    reading = asyncio.create_task(read())
    begun: asyncio.Task[Response] | None = None
    try:
        while (begun := await answers.get()) is not None:
            yield await begun
            slots.release()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        left = [begun, *(answers.get_nowait() for _ in range(answers.qsize()))]
        tasks = [task for task in left if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
