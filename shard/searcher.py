"""Where searches run: small ones at once, larger ones in a bounded pool of threads.

FAISS and Tantivy release the interpreter's lock, so threads are real. What a search does besides
needs it, though, and a thread that waits for the lock while the event loop works costs more than
searching ten thousand passages; smaller shards are searched in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import faiss

from core.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

_RETRY_AFTER_SECONDS = 0.05


class Searcher:
    """Runs searches; `rows` is about how many of them one reads."""

    def __init__(self, threads: int, queued: int, inline_rows: int) -> None:
        # One search, one thread: parallel queries use the cores, and OpenMP's spinning would cost
        # them.
        faiss.omp_set_num_threads(1)
        self._pool = ThreadPoolExecutor(
            threads, "search", initializer=lambda: faiss.omp_set_num_threads(1)
        )
        self._permits = self._most = threads + queued
        self._inline_rows = inline_rows

    async def run(self, rows: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `call`; raises Overloaded at once if too many searches wait already."""
        if rows <= self._inline_rows:
            return call(*args, **kwargs)
        if self._permits == 0:
            raise Overloaded("too many searches wait", retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._permits -= 1
        future = self._pool.submit(call, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    @property
    def busy(self) -> int:
        """How many searches run in threads or wait for one."""
        return self._most - self._permits

    def stop(self) -> None:
        """Waits for the searches that run and drops those that wait."""
        self._pool.shutdown(cancel_futures=True)

    def _release(self) -> None:
        self._permits += 1
