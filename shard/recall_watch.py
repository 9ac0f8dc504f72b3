"""Measures now and then how well sealed segments answer the queries that really come.

One search in so many is taken as a sample. Beside its answer, in the pool of searches and only if
that has room, every sealed segment is asked for the nearest passages twice: as searches do it, and
by scoring all of them. That costs as much as an exact search of the shard.
"""

from __future__ import annotations

import asyncio

from core.errors import Overloaded
from shard.fetched import Vector
from shard.metrics import ShardMetrics
from shard.searcher import Searcher
from shard.snapshot import Snapshot


class RecallWatch:
    """`sample` every search; one measurement runs at a time. With `one_in` 0 none does."""

    def __init__(self, searcher: Searcher, metrics: ShardMetrics, one_in: int) -> None:
        self._searcher = searcher
        self._metrics = metrics
        self._one_in = one_in
        self._seen = 0
        self._measuring: asyncio.Task[None] | None = None

    def sample(self, snapshot: Snapshot, vector: Vector) -> None:
        """Notes a search that was answered; measures if its turn has come."""
        if not self._one_in or all(segment.index.is_exact for segment in snapshot.segments):
            return
        self._seen += 1
        if self._seen >= self._one_in and self._measuring is None:
            self._seen = 0
            self._measuring = asyncio.create_task(self._measure(snapshot, vector))

    async def until_measured(self) -> None:
        """Waits for the measurement that runs, if one does."""
        if self._measuring is not None:
            await asyncio.gather(self._measuring, return_exceptions=True)

    async def _measure(self, snapshot: Snapshot, vector: Vector) -> None:
        try:
            rows = snapshot.manifest.passages
            found, wanted = await self._searcher.run(rows, snapshot.measure_recall, vector)
            if wanted:
                name = snapshot.manifest.collection
                self._metrics.recall.labels(name).observe(found / wanted)
        except Overloaded:
            self._metrics.recall_skipped.inc()
        finally:
            self._measuring = None

    def __repr__(self) -> str:
        return f"<RecallWatch one in {self._one_in}, {self._seen} since the last>"
