"""What is done to one shard's index between batches: a rebuild, a compaction, or nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.manifest import SegmentEntry
from indexer.merge import Choose, MergePolicy, dead_rows, fitting
from indexer.sealing import Sealing
from indexer.shard_index import ShardIndex
from indexer.shared import Shared
from indexer.tasks import COMPACT, REBUILD


@dataclass(slots=True, eq=False)
class Chore:
    """One task of one shard: `done` of `total` steps as far as is known; `ended` is set last."""

    kind: str
    done: int = 0
    total: int = 0
    choose: Choose = field(default_factory=lambda: OnlyThese())
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Chores:
    """`give` a chore while there is no other; `present` is the one under way."""

    def __init__(self, shared: Shared, sealing: Sealing) -> None:
        self.present: Chore | None = None
        self._shared = shared
        self._sealing = sealing
        self._nudged = asyncio.Event()

    def give(self, chore: Chore) -> None:
        """Has something done to the index."""
        self.present = chore
        self.nudge()

    def nudge(self) -> None:
        """Says that there is something to do before the next batch."""
        self._nudged.set()

    def asks_for(self, kind: str) -> bool:
        """Whether such a chore is under way."""
        return self.present is not None and self.present.kind == kind

    def progress(self, kind: str, done: int, total: int) -> None:
        """Notes how far such a chore is, if that is the one under way."""
        if self.present is not None and self.present.kind == kind:
            self.present.done, self.present.total = done, max(done, total)

    def end(self, kind: str) -> None:
        """Notes that such a chore is done, if that is the one under way."""
        if self.present is not None and self.present.kind == kind:
            self.present.ended.set()
            self.present = None

    def abandon(self) -> None:
        """Ends what is under way, because there is no index any more."""
        if self.present is not None:
            self.end(self.present.kind)

    async def until(
        self,
        ahead: asyncio.Future[Any],
        index: ShardIndex,
        *,
        is_behind: Callable[[], bool],
        publish: Callable[[], Awaitable[None]],
        clear_up: Callable[[], Awaitable[None]],
    ) -> None:
        """Works until `ahead`, the next batch, is there or a rebuild is asked for.

        An index that `is_behind` its collection is published again, and so is one in which a merge
        has ended. A compaction gets one step also if the batch is there already, so that it ends
        some time. What the last publications replaced is cleared up once it is old enough.
        """
        while not self.asks_for(REBUILD):
            self._nudged.clear()
            if self._sealing.has_ended:
                await self._take_in(index, publish)
            elif self.asks_for(COMPACT) and not self._sealing.is_busy:
                await self._compact(index, publish)
            elif not ahead.done() and is_behind():
                await publish()
            elif not ahead.done():
                await self._rest(index, ahead, clear_up)
            if ahead.done():
                return

    async def _compact(self, index: ShardIndex, publish: Callable[[], Awaitable[None]]) -> None:
        """One step of a compaction; the last one is that of the lexical index."""
        segments = index.segments
        if self.present is None or await self._sealing.begin(segments, self.present.choose):
            return
        if await self._shared.work("lexical", lambda: index.lexical.compact(segments.documents())):
            await publish()
        self.end(COMPACT)

    async def _take_in(self, index: ShardIndex, publish: Callable[[], Awaitable[None]]) -> None:
        """Publishes what a merge has made, and begins the next one."""
        if await self._sealing.take_in(index.segments):
            await publish()
            if self.present is not None:
                done = self.present.done + 1
                self.progress(COMPACT, done, done + len(index.segments))
        if not self.asks_for(COMPACT):
            await self._sealing.begin(index.segments)

    async def _rest(
        self,
        index: ShardIndex,
        ahead: asyncio.Future[Any],
        clear_up: Callable[[], Awaitable[None]],
    ) -> None:
        """Waits for the next batch or a nudge, after some time with less in memory and on disk."""
        config = self._shared.config
        nudged = asyncio.ensure_future(self._nudged.wait())
        both: set[asyncio.Future[Any]] = {ahead, nudged}

        async def is_idle(seconds: float) -> bool:
            done, _ = await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return not done

        try:
            if await is_idle(config.idle_seconds):
                await self._shared.work("rest", index.lexical.rest)
                if await is_idle(config.keep_seconds):
                    await clear_up()
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nudged.cancel()


class OnlyThese:
    """Chooses as `choose_all` among the segments of the first question: new ones come for ever."""

    def __init__(self) -> None:
        self._ids: frozenset[str] | None = None

    def __call__(self, segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
        if self._ids is None:
            self._ids = frozenset(segment.id for segment in segments)
        return choose_all([each for each in segments if each.id in self._ids], policy)


def choose_all(segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
    """The ids of the segments to merge next until nothing is left to compact; empty if so.

    As many as fit into one merge; then those alone that hold dead rows.
    """
    together = fitting(segments, policy)
    if len(together) > 1:
        return tuple(segment.id for segment in together)
    dirty = [segment for segment in segments if dead_rows(segment)]
    return (dirty[0].id,) if dirty else ()
