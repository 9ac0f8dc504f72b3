"""What one shard's index is to take in next: changes from the feed, split, tokenised, embedded."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator

from indexer import feed, suspects
from indexer.batch import Batch, Place
from indexer.catalogue import CollectionRecord
from indexer.changes import Change, fold
from indexer.embedding import Embedder
from indexer.lag import Lag
from indexer.ownership import Ownership
from indexer.pacing import Pace
from indexer.preparing import Preparer
from indexer.shared import Shared
from indexer.stall import Stall


class Batches:
    """The batches of one shard: `next` after each other, `wake` after every write to the feed.

    Each is built and published inside `working`.
    """

    def __init__(
        self, record: CollectionRecord, shard: int, shared: Shared, stall: Stall, lag: Lag
    ) -> None:
        self._record = record
        self._shard = shard
        self._shared = shared
        self._stall = stall
        self._lag = lag
        self._embedder = Embedder(record, shard, shared, stall)
        self._pace = Pace()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Says that the feed has grown."""
        self._wake.set()

    @contextlib.contextmanager
    def working(self, batch: Batch) -> Iterator[None]:
        """While the body builds and publishes a batch, changes gather, and a while after it."""
        self._pace.begin(time.monotonic())
        try:
            yield
        finally:
            waiting = self._lag.beyond(batch.end.sequence) > 0
            self._pace.end(time.monotonic(), waiting=waiting)
            self._wake.set()

    async def next(self, ownership: Ownership, after: Place) -> Batch:
        """The next changes, embedded; waits for as long as there are none.

        Raises Diverged, CorruptFile, Fenced, ModelMismatch or what the document store raises.
        """
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
        await self._gather(after.sequence, limit)
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
                self._lag.take(changes[0].sequence, changes[0].update_micros)
                return changes
            self._stall.clear()
            await self._wake.wait()

    async def _gather(self, after: int, limit: int) -> None:
        """Returns when it is time to read: when the pace says so, or a full batch waits."""
        while self._lag.beyond(after) < limit:
            seconds = self._pace.seconds_left(time.monotonic())
            if not seconds:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if math.isinf(seconds) else seconds)

    async def _set_aside(
        self, ownership: Ownership, after: Place, changes: list[Change]
    ) -> frozenset[int]:
        """Sequences of the documents that are not to be tried."""
        uid, shard = self._record.index, self._shard
        if ownership.crashed_alone(after.sequence):
            reason = "the indexer died whenever it worked on it"
            await self._shared.database.write(
                lambda connection: suspects.set_aside(connection, uid, shard, changes[0], reason)
            )
        sequences = [change.sequence for change in changes]
        return await self._shared.database.read(
            lambda connection: suspects.set_aside_among(connection, uid, shard, sequences)
        )
