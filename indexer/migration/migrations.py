"""Migrations from their beginning to their release, told in order.

    migrate -> build behind live indexing -> caught up -> a gateway compares -> the gate -> switch
    -> the old index follows until it is given up -> finish or roll back -> release

Each step ends with one transaction; after a crash the next start goes on from the last one. Every
other thing, such as files, tasks and turns, follows from the rows and can be done again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from core.deadline import Deadline
from core.errors import InvalidInput, MigrationNotReady
from indexer import catalogue, heads
from indexer.clock import now_micros
from indexer.heads import Progress
from indexer.migration import store
from indexer.migration.course import Course
from indexer.migration.gate import Comparison, objections
from indexer.migration.indexes import Indexes
from indexer.migration.records import Migration, Plan, ShadowQuery
from indexer.migration.states import Event, State
from indexer.migration.target import TargetWish, target_of
from indexer.names import NameBook
from indexer.shared import Shared, to_its_end

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration, with the progress of the index that does not answer while it is not over."""

    migration: Migration
    shards: tuple[tuple[Progress, str], ...] = ()


class Migrations:
    """All migrations of this indexer: `await start()` after the collections', `await stop()`."""

    def __init__(self, shared: Shared, indexes: Indexes, names: NameBook) -> None:
        self._shared = shared
        self._indexes = indexes
        self._course = Course(shared, indexes, names)
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Goes on where the last process stopped."""
        for found in await self._shared.database.read(store.unreleased):
            if not found.state.is_over:
                limit = found.plan.tokens_per_second if found.state is State.BUILDING else 0
                await self._indexes.add(found.idle_record, tokens_per_second=limit)
            self._course.go_on(found)
        self._started.set()

    async def stop(self) -> None:
        """Leaves everything as it stands; the next start goes on."""
        await self._course.stop()

    async def migrate(
        self,
        name: str,
        wish: TargetWish,
        plan: Plan,
        queries: Sequence[ShadowQuery],
        deadline: Deadline,
    ) -> MigrationStatus:
        """Begins a migration. Raises what `target_of` and `store.begin` do."""
        await self._started.wait()
        record = await self._shared.database.read(lambda c: catalogue.find(c, name))
        config = self._shared.config
        target = await target_of(record, wish, self._shared.encoders, config, deadline)

        async def begin() -> Migration:
            begun = await self._shared.database.write(
                lambda connection: store.begin(connection, target, plan, queries)
            )
            limit = plan.tokens_per_second
            await self._indexes.add(begun.target_record, tokens_per_second=limit)
            return begun

        begun = await to_its_end(begin())
        self._course.go_on(begun)
        log.info("migration begun", extra={"collection": name, "index": target.index})
        return await self._status(begun)

    async def get(self, name: str) -> MigrationStatus:
        """The newest migration of a collection; raises NotFound."""
        return await self._status(await self._find(name))

    async def compare(self, name: str, queries: Sequence[ShadowQuery]) -> MigrationStatus:
        """Asks gateways for a comparison, by other queries if there are any; raises NotReady."""
        known = await self._find(name)
        if not (queries or known.is_compared):
            raise InvalidInput(
                "FIELD_REQUIRED",
                "is empty, and the migration has no queries",
                field="queries",
                remedy="give some",
            )
        changed = {"queries": _queries_text(queries)} if queries else {}
        return await self._status(
            await self._course.move(known, Event.COMPARE, reason="", **changed)
        )

    async def record(self, name: str, target: str, found: Comparison) -> MigrationStatus:
        """Judges what a gateway found about the index called `target`; raises NotReady."""
        known = await self._find(name)
        if known.target_record.index_name != target:
            raise MigrationNotReady(
                f"{target!r} is not the target of the newest migration", field="target_index"
            )
        against = objections(found, known.plan.gate)
        judged = replace(found, passed=not against, compare_micros=now_micros())
        moved = await self._course.move(
            known,
            Event.REFUSE if against else Event.PASS,
            report=json.dumps(asdict(judged), ensure_ascii=False),
            reason="; ".join(against),
        )
        self._course.go_on(moved)
        return await self._status(moved)

    async def switch(self, name: str, *, force: bool) -> MigrationStatus:
        """Lets the target answer; raises NotReady."""
        known = await self._find(name)
        event = Event.FORCE if force else Event.SWITCH
        return await self._status(
            await to_its_end(self._course.hand_over(known, event, force=force))
        )

    async def roll_back(self, name: str, *, force: bool) -> MigrationStatus:
        """Ends a migration with the source as it was; raises NotReady."""
        known = await self._find(name)
        if known.state.target_answers:
            moved = await to_its_end(self._course.hand_over(known, Event.ROLL_BACK, force=force))
        else:
            moved = await self._course.move(known, Event.ROLL_BACK)
        return await self._end(moved)

    async def finish(self, name: str) -> MigrationStatus:
        """Ends a migration that has switched; raises NotReady."""
        return await self._end(await self._course.move(await self._find(name), Event.FINISH))

    async def _find(self, name: str) -> Migration:
        await self._started.wait()
        return await self._shared.database.read(lambda connection: store.find(connection, name))

    async def _end(self, moved: Migration) -> MigrationStatus:
        await self._indexes.stop(moved.idle_record)
        self._course.go_on(moved)
        return MigrationStatus(moved)

    async def _status(self, known: Migration) -> MigrationStatus:
        if known.state.is_over:
            return MigrationStatus(known)
        idle = known.idle_record
        rows = await self._shared.database.read(lambda c: heads.progress(c, [idle.index]))
        shards = [(row, self._indexes.stalled(idle, row.shard)) for row in rows]
        return MigrationStatus(known, tuple(shards))


def _queries_text(queries: Sequence[ShadowQuery]) -> str:
    return json.dumps([asdict(query) for query in queries], ensure_ascii=False)
