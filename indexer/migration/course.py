"""How migrations go on: every move is one transaction, what follows a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from functools import partial
from typing import Any

from core.deadline import Deadline
from core.errors import MigrationNotReady, NotFound
from indexer.clock import now_micros
from indexer.migration import states, store
from indexer.migration.indexes import Indexes
from indexer.migration.records import Migration
from indexer.migration.states import Event, State
from indexer.names import NameBook
from indexer.shared import Shared, to_its_end

log = logging.getLogger(__name__)

LEVEL_SECONDS = 10.0
"""How long a switch waits for the index that is to answer, while the other begins nothing new."""

LOOK_SECONDS = 1.0
"""How often a target that is being built is looked at, and a switch by itself is tried again."""


class Course:
    """`move` and `hand_over` when told, `go_on` with what follows; `await stop()`."""

    def __init__(self, shared: Shared, indexes: Indexes, names: NameBook) -> None:
        self._shared = shared
        self._indexes = indexes
        self._names = names
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    async def stop(self) -> None:
        """Leaves everything as it stands."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def move(self, known: Migration, event: Event, **values: Any) -> Migration:
        """One move that lets the same index answer as before; raises MigrationNotReady."""
        async with self._locks[known.live.uid]:
            moved = await self._shared.database.write(
                lambda connection: store.move(connection, known, event, **values)
            )
        _log(moved, event)
        return moved

    async def hand_over(self, known: Migration, event: Event, *, force: bool) -> Migration:
        """Lets the index answer that is idle, once it publishes all that the other one does.

        Raises MigrationNotReady; with `force` not because it lags.
        """
        async with self._locks[known.live.uid]:
            known = await self._shared.database.read(lambda c: store.again(c, known))
            states.after(known.state, event)
            self._indexes.hold(known.live, True)
            try:
                moved = await self._exchange(known, event, force=force)
            finally:
                self._indexes.hold(known.live, False)
            self._indexes.put_first(moved.live, before=known.live)
        _log(moved, event)
        return moved

    async def _exchange(self, known: Migration, event: Event, *, force: bool) -> Migration:
        patience = Deadline.after(LEVEL_SECONDS)
        change = self._names.change
        while True:
            level = await self._indexes.draws_level(
                known.idle_record, known.live, patience.remaining()
            )
            if force and not level:
                return await change(lambda c: store.move(c, known, event, reason=""))
            try:
                return await change(lambda c: store.hand_over(c, known, event))
            except store.Lags:
                # The one that answers has published something that it had begun before.
                if not level:
                    raise

    def go_on(self, known: Migration) -> None:
        """Does by itself what follows from a state, in place of what was going on."""
        key = known.live.uid, known.number
        before = self._tasks.pop(key, None)
        if before is not None and before is not asyncio.current_task():
            before.cancel()
        if (work := self._next(known)) is not None:
            task = self._tasks[key] = asyncio.create_task(work)
            task.add_done_callback(partial(self._done, key))

    def _next(self, known: Migration) -> Coroutine[Any, Any, None] | None:
        if known.state.is_over:
            return self._release(known)
        if known.state is State.BUILDING:
            return self._build(known)
        if known.state is State.READY and known.plan.auto_switch:
            return self._switch_by_itself(known)
        return None

    def _done(self, key: tuple[str, int], task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if task.cancelled() or (error := task.exception()) is None:
            return
        overtaken = isinstance(error, NotFound | MigrationNotReady)
        level = logging.INFO if overtaken else logging.ERROR
        log.log(level, "migration left", extra={"uid": key[0], "why": repr(error)})

    async def _build(self, known: Migration) -> None:
        """Waits until the target has caught up, and moves on."""
        target = known.target_record
        try:
            await self._until_caught_up(known)
        except NotFound:
            await self._indexes.drop(target)
            raise
        self._indexes.unlimited(target)
        event = Event.CAUGHT_UP if known.is_compared else Event.CAUGHT_UP_UNCOMPARED
        self.go_on(await self.move(known, event))

    async def _until_caught_up(self, known: Migration) -> None:
        """Returns once the target covers all that was there, and is a batch behind at most.

        Raises NotFound once the collection is gone.
        """
        target, goal = known.target_record, await self._indexes.feed_heads(known.target_record)
        while True:
            covered = await self._indexes.covers(target, goal, LOOK_SECONDS)
            await self._shared.database.read(lambda c: store.again(c, known))
            if covered and await self._indexes.lag(target) <= self._shared.config.batch_documents:
                return
            if covered:
                goal = await self._indexes.feed_heads(target)

    async def _switch_by_itself(self, known: Migration) -> None:
        """Switches as soon as that is possible; says why it is not."""
        while True:
            try:
                await to_its_end(self.hand_over(known, Event.SWITCH, force=False))
                return
            except store.Lags as error:
                reason = str(error)
            await self._shared.database.write(partial(store.note, known=known, reason=reason))
            await asyncio.sleep(LOOK_SECONDS)

    async def _release(self, known: Migration) -> None:
        """Removes what is left of the index that lost, once nobody can need it any more.

        If it has answered it stays for queries under way and their further pages.
        """
        if known.switch_micros:
            age = (now_micros() - known.end_micros) / 1e6
            await asyncio.sleep(max(0.0, self._shared.config.keep_seconds - age))
        await self._indexes.drop(known.idle_record)
        await self._shared.database.write(lambda connection: store.release(connection, known))


def _log(moved: Migration, event: Event) -> None:
    fields = {"collection": moved.live.name, "uid": moved.live.uid, "number": moved.number}
    log.info("migration moved", extra={**fields, "event": event.value, "state": moved.state.value})
