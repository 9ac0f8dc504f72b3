"""Carries out what operators ask to be done to indexes: one shard of a collection after the other.

What was asked for stands in the document store until it is done, so a restart goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from indexer import catalogue, tasks
from indexer.catalogue import CollectionRecord
from indexer.chores import Chore
from indexer.database import Database
from indexer.fleet import Fleet
from indexer.ingest import ShardIngest
from indexer.tasks import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task; `chore` is its progress while it is under way, None otherwise."""

    task: Task
    chore: Chore | None


class Upkeep:
    """`ask` for tasks and look at them: `await start()`, `await stop()`."""

    def __init__(self, database: Database, fleet: Fleet) -> None:
        self._database = database
        self._fleet = fleet
        self._chores: dict[tuple[str, str, int], Chore] = {}
        self._asked: set[str] = set()
        self._workers: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Goes on with what is not done; the fleet must have started."""
        for record in await self._database.read(catalogue.every):
            if await self._database.read(partial(tasks.unfinished, uid=record.index)):
                self._work_on(record.index)

    async def stop(self) -> None:
        """Stops; the next start goes on."""
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)

    async def ask(self, name: str, kind: str) -> list[TaskStatus]:
        """Has something done to every shard of a collection; raises NotFound."""

        def job(connection: Connection) -> tuple[CollectionRecord, list[Task]]:
            record = catalogue.find(connection, name)
            return record, tasks.ask(connection, record, kind)

        record, asked = await self._database.write(job)
        self._work_on(record.index)
        log.info("task asked for", extra={"collection": record.name, "kind": kind})
        return self._statuses(record, asked)

    async def tasks(self, name: str) -> list[TaskStatus]:
        """The last tasks of a collection; raises NotFound."""

        def query(connection: Connection) -> tuple[CollectionRecord, list[Task]]:
            record = catalogue.find(connection, name)
            return record, tasks.every(connection, record)

        return self._statuses(*await self._database.read(query))

    def _statuses(self, record: CollectionRecord, found: Sequence[Task]) -> list[TaskStatus]:
        return [
            TaskStatus(each, self._chores.get((record.index, each.kind, each.shard)))
            for each in found
        ]

    def _work_on(self, index: str) -> None:
        self._asked.add(index)
        worker = self._workers.get(index)
        if worker is None or worker.done():
            self._workers[index] = asyncio.create_task(self._work(index))

    async def _work(self, index: str) -> None:
        while index in self._asked:
            self._asked.discard(index)
            while unfinished := await self._database.read(partial(tasks.unfinished, uid=index)):
                kind, shard = unfinished[0]
                ingest = self._fleet.ingest(index, shard)
                if ingest is None:
                    return
                await self._do(ingest, index, kind, shard)
                await self._database.write(partial(tasks.end, uid=index, kind=kind, shard=shard))

    async def _do(self, ingest: ShardIngest, index: str, kind: str, shard: int) -> None:
        chore = self._chores[index, kind, shard] = Chore(kind)
        ingest.chores.give(chore)
        try:
            await chore.ended.wait()
        finally:
            del self._chores[index, kind, shard]
        log.info("task done", extra={"index": index, "kind": kind, "shard": shard})
