"""Compares the two indexes of a migration by shadow queries, and tells the indexer what it found.

A gateway learns of a migration by the index that shards serve beside the one that answers; it then
asks the indexer every second whether a comparison is wanted. Nothing is kept here: whatever dies, a
gateway compares as long as one is wanted. Several gateways do it twice, and one report counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from core.deadline import Deadline
from core.errors import TriremeError
from gateway.admission import Admission
from gateway.config import GatewayConfig
from gateway.lanes import Lane
from gateway.live_queries import LiveQueries
from gateway.search import Search
from gateway.shadow_figures import Pair, ShadowQuery, figures
from gateway.shadow_wire import ComparisonDesk, Wanted, shadow_search
from gateway.topology import Topology
from gateway.work import Work

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SHADOW_WORK = Work("", 1, Lane.BACKFILL)
TRIES = 3
"""Times that a query is asked until both indexes answer it whole."""


class Shadow:
    """`start()`, `await stop()`."""

    def __init__(
        self,
        search: Search,
        topology: Topology,
        admission: Admission,
        live: LiveQueries,
        desk: ComparisonDesk,
        config: GatewayConfig,
    ) -> None:
        self._search = search
        self._topology = topology
        self._admission = admission
        self._live = live
        self._desk = desk
        self._config = config
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look for migrations."""
        self._task = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Gives up what is being compared."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while True:
            await self._topology.until(lambda: bool(self._topology.idle_indexes()), LOOK_SECONDS)
            for index in self._topology.idle_indexes():
                try:
                    await self._look_at(index)
                except TriremeError as error:
                    log.info("migration not looked at", extra={"index": index, "why": str(error)})
                except Exception:
                    log.exception("comparing failed unexpectedly")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at(self, index: str) -> None:
        wanted = await self._desk.wanted(index.partition("~")[0])
        if wanted is None or wanted.target != index:
            return
        queries = wanted.queries or self._live_queries(wanted)
        if not queries:
            return
        pairs = [await self._ask_both(wanted, query) for query in queries]
        await self._desk.record(wanted, figures(pairs))
        log.info("migration compared", extra={"index": index, "queries": len(pairs)})

    def _live_queries(self, wanted: Wanted) -> Sequence[ShadowQuery]:
        """The latest queries; none until this gateway remembers as many as are wanted."""
        texts = self._live.latest(wanted.collection, wanted.live_queries)
        return [ShadowQuery(text) for text in texts] if len(texts) == wanted.live_queries else ()

    async def _ask_both(self, wanted: Wanted, query: ShadowQuery) -> Pair:
        for _ in range(TRIES):
            source = await self._ask(wanted.source, query.text)
            target = await self._ask(wanted.target, query.text)
            if source is not None and target is not None:
                return Pair(query, source, target)
        return Pair(query, whole=False)

    async def _ask(self, index: str, text: str) -> list[str] | None:
        """The first document ids, None if the answer is not whole; waits for a permit."""
        deadline = Deadline.after(self._config.longest_deadline_seconds)
        try:
            async with self._admission.turn(SHADOW_WORK, deadline):
                query = shadow_search(index, text, self._config)
                answer = await self._search.search(query, deadline)
        except TriremeError as error:
            log.info("shadow query failed", extra={"index": index, "why": str(error)})
            return None
        if answer.degraded:
            return None
        return [hit.ranked.fused.id for hit in answer.hits]
