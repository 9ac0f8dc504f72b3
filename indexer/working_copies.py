"""The working copy of one shard's index: who may change it, how it is opened, closed, cleared."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from core.errors import TriremeError
from core.index_store import ShardStore
from indexer import published
from indexer.catalogue import CollectionRecord
from indexer.ownership import Ownership
from indexer.shard_index import ShardIndex
from indexer.shared import Shared

log = logging.getLogger(__name__)

COLLECT_SECONDS = 30.0
"""Between two clearings of files that no generation needs."""


class WorkingCopies:
    """Those of one shard, one after the other; `fields` are for log lines."""

    def __init__(
        self,
        record: CollectionRecord,
        shard: int,
        shared: Shared,
        directory: Path,
        fields: Mapping[str, object],
    ) -> None:
        self.files: ShardStore = shared.index_store.shard(record.index, shard)
        self._record = record
        self._shard = shard
        self._shared = shared
        self._directory = directory
        self._fields = fields
        # The first publication shows what is there.
        self._collected = time.monotonic() - COLLECT_SECONDS

    async def take_over(self) -> Ownership:
        """Makes this process the shard's only writer, under a new epoch."""
        current = await self._shared.work(
            "read_current", lambda: published.current(self.files, self._fields)
        )
        above = current.epoch if current is not None else 0
        return await Ownership.take(
            self._shared.database,
            self._record,
            self._shard,
            owner=self._shared.owner,
            above_epoch=above,
        )

    async def open(self, ownership: Ownership, *, anew: bool) -> ShardIndex:
        """The copy of what is published; `anew`: an empty one, to be built from the feed."""

        def work() -> ShardIndex:
            head = ownership.head
            manifest = None
            if not anew:
                manifest = published.committed(self.files, head, self._fields)
            return ShardIndex.open(
                self._record,
                self._shard,
                self.files,
                self._directory,
                manifest,
                gpu=self._shared.config.search_gpu,
            )

        return await self._shared.work("open", work)

    async def close(self, index: ShardIndex) -> None:
        """Removes a copy; the index store keeps what was published."""
        try:
            await self._shared.work("close", index.close)
        except TriremeError as error:
            log.warning("working copy not closed", extra={**self._fields, "why": str(error)})

    async def collect_garbage(self) -> None:
        """Clears away what no retained generation needs, now and then."""
        if time.monotonic() - self._collected >= COLLECT_SECONDS:
            await self._collect(self._shared.config.keep_generations)

    async def clear_up(self) -> None:
        """The same at once, for a shard at rest; if that fails it is at rest all the same."""
        await self._collect_if_possible(self._shared.config.keep_generations)

    async def make_space(self) -> None:
        """The same for a full disk, on which one generation is kept.

        As long as it is full no generation is published that would take an old one's place.
        """
        await self._collect_if_possible(1)

    async def _collect_if_possible(self, keep: int) -> None:
        try:
            await self._collect(keep)
        except TriremeError as error:
            log.warning("nothing cleared away", extra={**self._fields, "why": str(error)})

    async def _collect(self, keep: int) -> None:
        self._collected = time.monotonic()
        seconds = self._shared.config.keep_seconds
        cleared = await self._shared.work(
            "collect",
            lambda: self.files.collect_garbage(keep=keep, minimum_age_seconds=seconds),
        )
        metrics, labels = self._shared.metrics, (self._record.name, self._shard)
        metrics.kept_bytes.labels(*labels).set(cleared.kept_bytes)
        metrics.removed_bytes.labels(*labels).inc(cleared.removed_bytes)
