"""What the write paths of all shards share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from core.index_store import IndexStore
from indexer.config import IndexerConfig
from indexer.database import Database
from indexer.encoders import EncoderSource
from indexer.metrics import IndexerMetrics

Result = TypeVar("Result")

_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Shared:
    """`owner` names this process in the shards' rows, for people.

    `executor` is for what a publication waits for, `background` for what it does not.
    """

    owner: str
    config: IndexerConfig
    database: Database
    index_store: IndexStore
    encoders: EncoderSource
    executor: Executor
    metrics: IndexerMetrics
    background: Executor = field(default_factory=lambda: background_threads(1))

    async def work(self, step: str, job: Callable[[], Result]) -> Result:
        """Runs a blocking step outside the event loop and times it.

        Once begun it runs to its end, and is waited for, even if the caller is cancelled: nobody
        may touch the same files meanwhile.
        """
        loop = asyncio.get_running_loop()
        with self.metrics.step_seconds.labels(step).time():
            return await to_its_end(loop.run_in_executor(self.executor, job))


def background_threads(count: int) -> Executor:
    """Threads that give way to all others."""
    return ThreadPoolExecutor(count, "background", initializer=_give_way)


def _give_way() -> None:
    # Linux has a priority per thread; elsewhere this may be refused, and all are equal.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


async def to_its_end(work: Awaitable[Result]) -> Result:
    """Awaits something that, once begun, is not left half done if the caller is cancelled."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise
    finally:
        # A failure's traceback holds this frame, which must not hold the failure.
        del running, work
