"""Several pieces of work under one call: side by side as long as there are permits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Generic, TypeVar

from core.errors import Overloaded

Answer = TypeVar("Answer")
Work = Callable[[], Awaitable[Answer]]
Permit = Callable[[], AbstractContextManager[None]]


async def side_by_side(
    works: Sequence[Work[Answer]], spare: Permit, *, at_once: int
) -> list[Answer]:
    """What every work gives, in their order; at most `at_once` are under way.

    The caller holds a permit for one. With that alone all of the work gets done, one by one; as
    soon as `spare` gives more instead of raising Overloaded, it goes on side by side. What a work
    raises ends the others.
    """
    return await _Batch(works, spare, at_once).answers()


class _Batch(Generic[Answer]):
    """The lanes of one batch: each takes the next work when it is done with one."""

    def __init__(self, works: Sequence[Work[Answer]], spare: Permit, at_once: int) -> None:
        self._left = iter(enumerate(works))
        self._spare = spare
        self._answers: list[Answer | None] = [None] * len(works)
        self._closed_lanes = min(at_once, len(works)) - 1

    async def answers(self) -> list[Answer]:
        async with asyncio.TaskGroup() as group:
            for number, work in self._left:
                self._open_lanes(group)
                self._answers[number] = await work()
        return self._answers  # type: ignore[return-value]

    def _open_lanes(self, group: asyncio.TaskGroup) -> None:
        with suppress(Overloaded):
            while self._closed_lanes:
                permit = ExitStack()
                permit.enter_context(self._spare())
                self._closed_lanes -= 1
                lane = group.create_task(self._lane())
                lane.add_done_callback(_giving_back(permit))

    async def _lane(self) -> None:
        for number, work in self._left:
            self._answers[number] = await work()


def _giving_back(permit: ExitStack) -> Callable[[object], None]:
    """Also for a lane that is cancelled before it begins."""
    return lambda _: permit.close()
