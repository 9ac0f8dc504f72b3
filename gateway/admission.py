"""Sheds load before any work is done for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from core.deadline import Deadline
from core.errors import Overloaded

RETRY_AFTER_SECONDS = 0.1


class Admission:
    """A fixed number of permits; whoever finds none is sent away, or waits if it may."""

    def __init__(self, permits: int) -> None:
        self._permits = permits
        self._taken = 0
        self._freed = asyncio.Event()

    @contextmanager
    def permit(self) -> Iterator[None]:
        """Holds one permit; raises Overloaded at once if there is none."""
        if self._taken >= self._permits:
            raise self._overloaded()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._freed.set()

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncIterator[None]:
        """Holds one permit, for bulk work whose sender is held back meanwhile.

        Waits for one, in the order of asking; `permit` does not queue and overtakes. Raises
        Overloaded if none came free by `deadline`.
        """
        try:
            async with asyncio.timeout(deadline.remaining()):
                while self._taken >= self._permits:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError as error:
            raise self._overloaded() from error
        with self.permit():
            yield

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._taken} requests are being worked on",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )

    def __repr__(self) -> str:
        return f"<Admission {self._taken} of {self._permits} permits taken>"
