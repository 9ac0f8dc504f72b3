"""Several pieces of work under one call: side by side as long as there are permits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Generic, TypeVar

from core.errors import Overloaded
from gateway.admission import Admission

Answer = TypeVar("Answer")
Work = Callable[[], Awaitable[Answer]]


async def side_by_side(
    works: Sequence[Work[Answer]], admission: Admission, *, at_once: int
) -> list[Answer]:
    """What every work gives, in their order; at most `at_once` are under way.

    Each that is under way holds a permit. Overloaded is raised at once if there is none for the
    first; with that one alone all of the work gets done, one by one, and as soon as others are free
    it goes on side by side. What a work raises ends the others.
    """
    with admission.permit():
        return await _Batch(works, admission, at_once).answers()


class _Batch(Generic[Answer]):
    """The lanes of one batch: each takes the next work when it is done with one."""

    def __init__(self, works: Sequence[Work[Answer]], admission: Admission, at_once: int) -> None:
        self._left = iter(enumerate(works))
        self._admission = admission
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
                permit.enter_context(self._admission.permit())
                self._closed_lanes -= 1
                lane = group.create_task(self._lane())
                lane.add_done_callback(_giving_back(permit))

    async def _lane(self) -> None:
        for number, work in self._left:
            self._answers[number] = await work()


def _giving_back(permit: ExitStack) -> Callable[[object], None]:
    """Also for a lane that is cancelled before it begins."""
    return lambda _: permit.close()
