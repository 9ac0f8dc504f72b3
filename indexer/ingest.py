"""One shard's write path, told in order: from changes in the feed to a published generation.

    batches: read changes -> fold -> split and tokenise -> embed -> build segment and lexical index
    -> make files durable -> write the manifest -> compare-and-set (the commit point) -> CURRENT

While one batch is built and published, changes gather, and where they come without end a while
longer (`pacing`); if a full batch waits, it is read and embedded meanwhile. When search defaults
change, the same files are published again with the new ones, whatever holds up the next batch;
compactions are done step by step between batches. Whatever fails, the working copy is given up and
opened again from the last published manifest, under a new epoch; searches go on with that
generation meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from core.errors import CorruptFile, Fenced, StorageFull, TriremeError
from core.manifest import Manifest
from core.ranking_wish import RankingWish
from core.vectors.settings import VectorSettings
from indexer.batch import Batch, Place
from indexer.batches import Batches
from indexer.catalogue import CollectionRecord
from indexer.changes import Diverged
from indexer.chores import Chores
from indexer.clock import now_micros
from indexer.lag import Lag
from indexer.ownership import Ownership
from indexer.sealing import Sealing, policy_of
from indexer.shard_index import ShardIndex
from indexer.shared import Shared, to_its_end
from indexer.stall import Stall
from indexer.tasks import REBUILD
from indexer.vector_state import VectorState
from indexer.working_copies import WorkingCopies

log = logging.getLogger(__name__)


class ShardIngest:
    """Follows one shard's feed: `run` until cancelled, `wake` after every write to it.

    `rank_by` after every change of its collection's search defaults, `seal_by` of its vector index.
    `chores` and `sealing` are done beside. `vectors` is what is published.
    """

    def __init__(
        self, record: CollectionRecord, shard: int, shared: Shared, directory: Path
    ) -> None:
        self.stall = Stall(shared.metrics.stalled, record.index_name, shard)
        self.lag = Lag()
        shared.metrics.watch(self.lag, record.index_name, shard)
        self.covered = -1
        self.schema = replace(record.schema_, complete=False)
        self.name = record.index_name
        self._record = record
        self._shard = shard
        self._shared = shared
        self._batches = Batches(record, shard, shared, self.stall, self.lag)
        self.vectors = VectorState()
        self._fields = {"collection": record.index_name, "uid": record.index, "shard": shard}
        self._copies = WorkingCopies(record, shard, shared, directory, self._fields)
        self._search_defaults = record.search_defaults
        self._vector_index = record.vector_index
        self.sealing = Sealing(
            shared,
            policy_of(shared.config, record.vector_index),
            self._fields,
            on_end=lambda: self.chores.nudge(),
        )
        self.chores = Chores(shared, self.sealing)
        self._moved = asyncio.Event()
        self._rebuild = False

    def wake(self, head: int) -> None:
        """Says that the feed has grown up to `head`."""
        self.lag.accept(head)
        self._batches.wake()

    def rank_by(self, search_defaults: RankingWish) -> None:
        """Says how searches rank from now on."""
        self._search_defaults = search_defaults
        self.chores.nudge()

    def seal_by(self, settings: VectorSettings) -> None:
        """Says how segments are indexed that are merged from now on."""
        self._vector_index = settings
        self.sealing.policy = policy_of(self._shared.config, settings)

    async def until(self, sequence: int) -> None:
        """Returns once a published generation covers the feed up to `sequence`; 0 is any."""
        while self.covered < sequence:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Indexes for ever; raises Fenced once another indexer has taken over.

        Every other failure is told in `stall`, waited out and tried again.
        """
        while True:
            is_full = False
            try:
                await self.run_once()
                continue
            except Fenced as error:
                self.stall.halt(str(error))
                log.critical("shard lost to another indexer", extra=self._fields)
                raise
            except (Diverged, CorruptFile) as error:
                log.error("index is built again", extra={**self._fields, "why": str(error)})
                self._shared.metrics.rebuilds.inc()
                self._rebuild = True
                why = f"the index is built again: {error}"
            except TriremeError as error:
                is_full, why = isinstance(error, StorageFull), str(error)
            except Exception as error:
                log.exception("write path failed unexpectedly", extra=self._fields)
                why = f"something failed on our side: {error!r}"
            # Not while the failure is at hand: its traceback holds on to removed files that were
            # being written, and so to their space.
            if is_full:
                self.stall.halt(why)
                await self._copies.make_space()
            await self.stall.wait(why)

    async def run_once(self) -> None:
        """Takes the shard over and follows its feed until something fails or it is built anew."""
        ownership = await self._copies.take_over()
        index = await self._copies.open(ownership, anew=self._rebuild)
        try:
            await self._follow(ownership, index)
            await ownership.end_attempt()
        except (TriremeError, Diverged, asyncio.CancelledError):
            await ownership.end_attempt()
            raise
        finally:
            await self._copies.close(index)

    async def _follow(self, ownership: Ownership, index: ShardIndex) -> None:
        head = ownership.head
        self.lag.accept(head.head)
        anew = self._rebuild or not head.manifest
        # An index that is built anew takes the old one's place only when it has caught up. One that
        # was never asked has no place to take, and goes on from what it published after a crash.
        takes_place = self._rebuild or not (head.manifest or head.feed)
        publish_from = head.head if takes_place else 0
        is_behind = index.search_defaults != self._search_defaults
        if not publish_from and (anew or is_behind):
            await self._publish(ownership, index, index.place)
        elif not anew:
            self._cover(index)
        ahead = asyncio.create_task(self._batches.next(ownership, index.place))
        try:
            await self.sealing.begin(index.segments)
            while True:
                if index.place.sequence >= publish_from:
                    await self._do_chores(ownership, index, ahead)
                if self.chores.asks_for(REBUILD) and not self._rebuild:
                    self._rebuild = True
                    return
                batch = await ahead
                with self._batches.working(batch):
                    ahead = asyncio.create_task(self._batches.next(ownership, batch.end))
                    await self._build(index, batch)
                    self.chores.progress(REBUILD, batch.end.sequence, publish_from)
                    if batch.end.sequence >= publish_from:
                        await self._publish(ownership, index, batch.end)
                        self._note(batch, index)
                self.stall.clear()
                if batch.end.sequence >= publish_from:
                    await self._copies.collect_garbage()
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
            await to_its_end(self.sealing.stop())
            del ahead  # its failure's traceback holds this frame, as in `_build`

    async def _build(self, index: ShardIndex, batch: Batch) -> None:
        """Both halves at the same time; whichever fails, the other ends before this returns."""
        work = self._shared.work
        halves = (
            work("segment", lambda: index.segments.apply(batch)),
            work("lexical", lambda: index.lexical.apply(batch)),
        )
        result: BaseException | None = None
        try:
            for result in await asyncio.gather(*halves, return_exceptions=True):
                if result is not None:
                    raise result
        finally:
            # Its traceback holds this frame: as a cycle it would stay until the collector comes.
            del result
        if await work("merge", lambda: index.segments.merge(self.sealing.policy)):
            self._shared.metrics.merges.inc()
        await self.sealing.take_in(index.segments)
        index.segments.settings = self._vector_index
        await self.sealing.begin(index.segments)

    async def _do_chores(
        self, ownership: Ownership, index: ShardIndex, ahead: asyncio.Task[Batch]
    ) -> None:
        await self.chores.until(
            ahead,
            index,
            is_behind=lambda: index.search_defaults != self._search_defaults,
            publish=lambda: self._publish(ownership, index, index.place),
            clear_up=self._copies.clear_up,
        )

    async def _publish(self, ownership: Ownership, index: ShardIndex, place: Place) -> None:
        epoch, generation = ownership.epoch, ownership.generation + 1
        manifest = await self._shared.work(
            "stage",
            lambda: index.stage(place, self._search_defaults, epoch=epoch, generation=generation),
        )
        sha256 = await self._shared.work(
            "manifest", lambda: self._copies.files.write_manifest(manifest)
        )
        await to_its_end(self._commit(ownership, manifest))
        index.published(sha256)
        self._shared.metrics.show_published(manifest)
        if self._rebuild:
            self._rebuild = False
            self.chores.end(REBUILD)
        self._cover(index)

    def _cover(self, index: ShardIndex) -> None:
        """Notes what is published."""
        self.covered, self.schema = index.place.sequence, index.schema
        self.vectors = index.vectors
        self._shared.metrics.show_segments(index.vectors, self._record.index_name, self._shard)
        self.lag.publish(self.covered)
        self._moved.set()

    async def _commit(self, ownership: Ownership, manifest: Manifest) -> None:
        await ownership.publish(manifest)
        await self._shared.work("current", lambda: self._copies.files.set_current(manifest))

    def _note(self, batch: Batch, index: ShardIndex) -> None:
        metrics = self._shared.metrics
        metrics.indexed.inc(len(batch.documents))
        metrics.batch_documents.observe(len(batch.documents))
        self.lag.count(len(batch.documents), time.monotonic())
        metrics.visible_seconds.observe(max(0, now_micros() - batch.oldest_micros) / 1e6)
