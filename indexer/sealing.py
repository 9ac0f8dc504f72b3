"""The merge of one shard that runs beside its publications: begun, waited for, taken in.

It reads published files and writes new ones; the working copy changes only when it is taken in,
between two batches. A process that dies leaves files that no manifest names.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from core.errors import CorruptFile
from core.vectors.kinds import FLAT
from core.vectors.settings import VectorSettings
from indexer import merge
from indexer.config import IndexerConfig
from indexer.merge import MergePolicy
from indexer.merge_job import MergeJob
from indexer.segment_part import SegmentPart
from indexer.shared import Shared

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""After a merge that failed."""


def policy_of(config: IndexerConfig, settings: VectorSettings) -> MergePolicy:
    """When segments are merged and sealed."""
    return MergePolicy(
        fanout=config.merge_fanout,
        most_rows=config.merge_most_rows,
        seal_rows=0 if settings.kind == FLAT else settings.seal_rows,
    )


class Sealing:
    """At most one merge at a time; `on_end` is called when it has ended.

    `policy` may be replaced at any time.
    """

    def __init__(
        self,
        shared: Shared,
        policy: MergePolicy,
        fields: Mapping[str, object],
        on_end: Callable[[], None],
    ) -> None:
        self.policy = policy
        self._shared = shared
        self._fields = fields
        self._on_end = on_end
        self._job: MergeJob | None = None
        self._running: asyncio.Future[None] | None = None
        self._not_before = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a merge runs or waits to be taken in."""
        return self._job is not None

    @property
    def has_ended(self) -> bool:
        """Whether a merge waits to be taken in."""
        return self._running is not None and self._running.done()

    async def begin(self, segments: SegmentPart, choose: merge.Choose = merge.choose_slow) -> bool:
        """Begins the merge that is to be done, if there is one and none runs."""
        if self.is_busy or time.monotonic() < self._not_before:
            return False
        job = await self._shared.work("plan", lambda: segments.plan(self.policy, choose))
        if job is None:
            return False
        self._job = job
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._shared.background, self._run, job)
        self._running.add_done_callback(lambda _: self._on_end())
        return True

    async def take_in(self, segments: SegmentPart) -> bool:
        """Puts what a merge made in the place of what it read; False if there is nothing new.

        A merge that failed is tried again later; raises CorruptFile if a segment cannot be read.
        """
        if self._job is None or self._running is None or not self._running.done():
            return False
        job, running = self._job, self._running
        self._job = self._running = None
        error = running.exception()
        if error is None:
            segments.swap(job)
            self._shared.metrics.merges.inc()
            log.info("segments merged", extra={**self._fields, "merge": repr(job)})
            return True
        segments.release(job)
        if isinstance(error, CorruptFile) or not isinstance(error, Exception):
            raise error
        self._not_before = time.monotonic() + RETRY_SECONDS
        self._shared.metrics.merge_failures.inc()
        log.error("merge failed", extra={**self._fields, "why": repr(error)})
        return False

    def _run(self, job: MergeJob) -> None:
        with self._shared.metrics.step_seconds.labels("seal").time():
            job.run()

    async def stop(self) -> None:
        """Gives up the merge that runs, and waits for its end."""
        if self._job is None or self._running is None:
            return
        self._job.abandon()
        await asyncio.gather(self._running, return_exceptions=True)
        self._job = self._running = None
