"""One shard's write path, told in order: from changes in the feed to a published generation.

    read changes -> fold -> split and tokenise -> embed -> build segment and lexical index
    -> make files durable -> write the manifest -> compare-and-set (the commit point) -> CURRENT

While one batch is built and published, the next is read and embedded. Whatever fails, the working
copy is given up and opened again from the last published manifest, under a new epoch; searches go
on with that generation meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from core.errors import CorruptFile, Fenced, TriremeError
from core.manifest import Manifest
from indexer import feed, suspects
from indexer.batch import Batch, Place
from indexer.catalogue import CollectionRecord
from indexer.changes import Change, Diverged, fold
from indexer.clock import now_micros
from indexer.embedding import Embedder
from indexer.heads import Head
from indexer.merge import MergePolicy
from indexer.ownership import Ownership
from indexer.preparing import Preparer
from indexer.shard_index import ShardIndex
from indexer.shared import Shared, to_its_end
from indexer.stall import Stall

log = logging.getLogger(__name__)

COLLECT_SECONDS = 30.0
"""Between two clearings of files that no generation needs."""


class ShardIngest:
    """Follows one shard's feed: `run` until cancelled, `wake` after every write to it."""

    def __init__(
        self, record: CollectionRecord, shard: int, shared: Shared, directory: Path
    ) -> None:
        self.stall = Stall(shared.metrics.stalled, record.name, shard)
        self.covered = -1
        self._record = record
        self._shard = shard
        self._shared = shared
        self._directory = directory
        self._files = shared.index_store.shard(record.uid, shard)
        self._embedder = Embedder(record, shard, shared, self.stall)
        self._policy = MergePolicy(
            fanout=shared.config.merge_fanout, most_rows=shared.config.merge_most_rows
        )
        self._fields = {"collection": record.name, "uid": record.uid, "shard": shard}
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._head = 0
        self._rebuild = False
        self._collected = time.monotonic()

    def wake(self, head: int) -> None:
        """Says that the feed has grown up to `head`."""
        self._head = max(self._head, head)
        self._wake.set()

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
            try:
                await self.run_once()
            except Fenced as error:
                self.stall.halt(str(error))
                log.critical("shard lost to another indexer", extra=self._fields)
                raise
            except (Diverged, CorruptFile) as error:
                log.error("index is built again", extra={**self._fields, "why": str(error)})
                self._shared.metrics.rebuilds.inc()
                self._rebuild = True
                await self.stall.wait(f"the index is built again: {error}")
            except TriremeError as error:
                await self.stall.wait(str(error))
            except Exception as error:
                log.exception("write path failed unexpectedly", extra=self._fields)
                await self.stall.wait(f"something failed on our side: {error!r}")

    async def run_once(self) -> None:
        """Takes the shard over and follows its feed until something fails."""
        ownership = await self._take_over()
        index = await self._open(ownership)
        try:
            await self._follow(ownership, index)
        except (TriremeError, Diverged, asyncio.CancelledError):
            await ownership.end_attempt()
            raise
        finally:
            await self._close(index)

    async def _take_over(self) -> Ownership:
        current = await self._shared.work("read_current", self._read_current)
        above = current.epoch if current is not None else 0
        return await Ownership.take(
            self._shared.database,
            self._record,
            self._shard,
            owner=self._shared.owner,
            above_epoch=above,
        )

    async def _open(self, ownership: Ownership) -> ShardIndex:
        """The working copy: of the published manifest, or empty, to be built from the feed."""

        def work() -> ShardIndex:
            manifest = None if self._rebuild else self._published_manifest(ownership.head)
            return ShardIndex.open(
                self._record, self._shard, self._files, self._directory, manifest
            )

        return await self._shared.work("open", work)

    async def _follow(self, ownership: Ownership, index: ShardIndex) -> None:
        head = ownership.head
        anew = self._rebuild or not head.manifest
        # An index that is built anew takes the old one's place only when it has caught up.
        publish_from = head.head if anew else 0
        if anew and not publish_from:
            await self._publish(ownership, index, index.place)
        if not anew:
            self._cover(index.place)
        ahead = asyncio.create_task(self._next_batch(ownership, index.place))
        try:
            while True:
                batch = await ahead
                ahead = asyncio.create_task(self._next_batch(ownership, batch.end))
                await self._build(index, batch)
                if batch.end.sequence >= publish_from:
                    await self._publish(ownership, index, batch.end)
                    self._note(batch, index)
                    await self._collect_garbage()
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _next_batch(self, ownership: Ownership, after: Place) -> Batch:
        """The next changes, embedded; waits for as long as there are none."""
        changes = await self._read(ownership, after)
        set_aside = await self._set_aside(ownership, after, changes)
        folded = fold(changes)
        encoders = await self._embedder.encoders()
        preparer = Preparer(self._record, encoders, self._shared.config.title_tokens)
        await ownership.begin_attempt(changes[-1].sequence)
        prepared = await self._shared.work(
            "split", lambda: preparer.prepare(folded.upserts, set_aside=set_aside)
        )
        with self._shared.metrics.step_seconds.labels("embed").time():
            documents = await self._embedder.embed(prepared)
        return Batch(
            end=Place(changes[-1].sequence, changes[-1].chain),
            documents=documents,
            deleted_ids=folded.deleted_ids,
            replaced=folded.replaced,
            oldest_micros=changes[0].update_micros,
        )

    async def _read(self, ownership: Ownership, after: Place) -> list[Change]:
        config = self._shared.config
        limit = ownership.batch_limit(after.sequence, config.batch_documents)
        while True:
            self._wake.clear()
            changes = await self._shared.database.read(
                lambda connection: feed.read(
                    connection,
                    self._record.uid,
                    self._shard,
                    after=after.sequence,
                    chain=after.chain,
                    limit=limit,
                    limit_bytes=config.batch_bytes,
                )
            )
            if changes:
                return changes
            self.stall.clear()
            await self._wake.wait()

    async def _set_aside(
        self, ownership: Ownership, after: Place, changes: list[Change]
    ) -> frozenset[int]:
        """Sequences of the documents that are not to be tried."""
        uid, shard = self._record.uid, self._shard
        if ownership.crashed_alone(after.sequence):
            reason = "the indexer died whenever it worked on it"
            await self._shared.database.write(
                lambda connection: suspects.set_aside(connection, uid, shard, changes[0], reason)
            )
        sequences = [change.sequence for change in changes]
        return await self._shared.database.read(
            lambda connection: suspects.set_aside_among(connection, uid, shard, sequences)
        )

    async def _build(self, index: ShardIndex, batch: Batch) -> None:
        """Both halves at the same time; whichever fails, the other ends before this returns."""
        work = self._shared.work
        halves = (
            work("segment", lambda: index.segments.apply(batch)),
            work("lexical", lambda: index.lexical.apply(batch)),
        )
        for result in await asyncio.gather(*halves, return_exceptions=True):
            if result is not None:
                raise result
        if await work("merge", lambda: index.segments.merge(self._policy)):
            self._shared.metrics.merges.inc()

    async def _publish(self, ownership: Ownership, index: ShardIndex, place: Place) -> None:
        epoch, generation = ownership.epoch, ownership.generation + 1
        manifest = await self._shared.work(
            "stage", lambda: index.stage(place, epoch=epoch, generation=generation)
        )
        sha256 = await self._shared.work("manifest", lambda: self._files.write_manifest(manifest))
        await to_its_end(self._commit(ownership, manifest))
        index.published(sha256)
        self._rebuild = False
        self.stall.clear()
        self._cover(place)

    def _cover(self, place: Place) -> None:
        self.covered = place.sequence
        self._moved.set()

    async def _commit(self, ownership: Ownership, manifest: Manifest) -> None:
        await ownership.publish(manifest)
        await self._shared.work("current", lambda: self._files.set_current(manifest))

    async def _collect_garbage(self) -> None:
        """Clears away what no retained generation needs, now and then."""
        if time.monotonic() - self._collected < COLLECT_SECONDS:
            return
        self._collected = time.monotonic()
        keep, seconds = self._shared.config.keep_generations, self._shared.config.keep_seconds
        await self._shared.work(
            "collect",
            lambda: self._files.collect_garbage(keep=keep, minimum_age_seconds=seconds),
        )

    async def _close(self, index: ShardIndex) -> None:
        try:
            await self._shared.work("close", index.close)
        except TriremeError as error:
            log.warning("working copy not closed", extra={**self._fields, "why": str(error)})

    def _note(self, batch: Batch, index: ShardIndex) -> None:
        labels = self._record.name, self._shard
        metrics = self._shared.metrics
        metrics.indexed.inc(len(batch.documents))
        metrics.lag.labels(*labels).set(max(0, self._head - batch.end.sequence))
        metrics.segments.labels(*labels).set(len(index.segments))
        metrics.visible_seconds.observe(max(0, now_micros() - batch.oldest_micros) / 1e6)

    def _read_current(self) -> Manifest | None:
        try:
            return self._files.read_current()
        except CorruptFile as error:
            log.error("current generation unreadable", extra={**self._fields, "why": str(error)})
            return None

    def _published_manifest(self, head: Head) -> Manifest | None:
        """The manifest that the document store names, with CURRENT brought up to it.

        None before the first. Raises CorruptFile if it is gone.
        """
        if not head.manifest:
            return None
        for manifest in self._files.manifests():
            if manifest.name == head.manifest:
                if self._read_current() != manifest:
                    self._files.set_current(manifest)
                return manifest
        raise CorruptFile(f"manifest {head.manifest} is missing")
