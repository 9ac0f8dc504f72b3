"""Which generations are open: adopts what is published, keeps the old one where that fails.

`look` tells the path: list collections, adopt new generations, drop what was replaced long enough
ago. Files are touched in one thread of its own only, so that searches never wait for them; it also
watches what is published, and the event loop hears of it when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from core.errors import PageTokenExpired, TriremeError
from core.index_store import CollectionEntry
from core.manifest import Manifest
from core.names import Names
from shard.adoption import Adoption
from shard.archive import Archived
from shard.metrics import ShardMetrics
from shard.shelf import Mark, Shelf, close_all, not_served
from shard.snapshot import Snapshot

log = logging.getLogger(__name__)

# A generation that was refused, or is no longer needed, is looked at again so often.
_HOUSEKEEPING_SECONDS = 0.5

P = ParamSpec("P")
T = TypeVar("T")
Published = tuple[Names, list[tuple[CollectionEntry, Mark]] | None]
"""What names stand for, and the collections with the mark of their CURRENT; None: unknown."""


class Library:
    """The collections that one shard serves: `await start()`, `await stop()`."""

    def __init__(
        self,
        adoption: Adoption,
        metrics: ShardMetrics,
        *,
        poll_seconds: float,
        keep_seconds: float,
        keep_generations: int,
        page_seconds: float,
        page_generations: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._adoption = adoption
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._keep_seconds = keep_seconds
        self._keep_generations = keep_generations
        self._page_seconds = page_seconds
        self._page_generations = page_generations
        self._clock = clock
        self._shelves: dict[str, Shelf] = {}
        self.names = Names()
        self._seen: Published | None = None
        self._thread = ThreadPoolExecutor(1, "adoption")
        self._stopped = threading.Event()
        self._changed = asyncio.Event()
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens what is published now, then keeps looking."""
        await self.look()
        self._task = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Stops looking and closes every generation."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._thread.shutdown)
        for shelf in self._shelves.values():
            close_all(shelf.snapshots())
        self._shelves.clear()

    def find(self, collection: str, generation: int = 0) -> Snapshot:
        """The wanted generation of a collection, the newest if that is not open or 0 is wanted.

        Raises NotFound (COLLECTION_NOT_FOUND).
        """
        shelf = self._shelves.get(collection)
        snapshot = shelf.find(generation) if shelf is not None else None
        if snapshot is None:
            raise not_served(collection)
        return snapshot

    def find_documents(
        self, collection: str, generation: int, *, pinned: bool
    ) -> Snapshot | Archived:
        """The wanted generation of a collection, to fetch documents from; they stay longer.

        If it is gone, the newest, unless it is `pinned`: then raises PageTokenExpired. Raises
        NotFound (COLLECTION_NOT_FOUND).
        """
        shelf = self._shelves.get(collection)
        found = shelf.find_documents(generation) if shelf is not None else None
        if found is None and not pinned:
            return self.find(collection, generation)
        if shelf is None:
            raise not_served(collection)
        if found is None:
            raise PageTokenExpired(
                f"generation {generation} of {collection!r} is no longer there",
                field="page_token",
                remedy="start again with an empty token",
            )
        return found

    def serving(self) -> dict[str, Manifest]:
        """The manifest of the newest open generation of each collection."""
        return {
            name: shelf.newest.manifest
            for name, shelf in self._shelves.items()
            if shelf.newest is not None
        }

    def next_change(self) -> asyncio.Event:
        """An event that is set when `serving` next changes, or when watches are to end."""
        return self._changed

    @property
    def is_ending(self) -> bool:
        """True once watches are to end."""
        return self._ending

    def end_watches(self) -> None:
        """Tells watchers that nothing more will come."""
        self._ending = True
        self._announce()

    async def look(self) -> None:
        """Looks once for new collections and generations, and drops what is no longer needed."""
        self._seen = names, published = await self._in_thread(self._read)
        if published is not None:
            self._drop_missing({entry.uid for entry, _ in published})
            for entry, mark in published:
                await self._look_at(entry, mark)
        if names.revision > self.names.revision:
            self.names = names
            self._announce()
        self._drop_replaced()

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._in_thread(self._wait_for_news)
                await self.look()
            except Exception:
                self._metrics.adopt_failures.labels("INTERNAL").inc()
                log.exception("looking for generations failed")

    def _wait_for_news(self) -> None:
        """Returns when something else is published, or when housekeeping is due."""
        until = time.monotonic() + _HOUSEKEEPING_SECONDS
        while not self._stopped.wait(self._poll_seconds) and time.monotonic() < until:
            if self._read() != self._seen:
                return

    def _read(self) -> Published:
        # Names are read first and told last: what they lead to is open by then.
        return self._read_names(), self._published()

    def _read_names(self) -> Names:
        try:
            return self._adoption.names()
        except TriremeError as error:
            self._report("names cannot be read", error, {})
            return self.names

    def _published(self) -> list[tuple[CollectionEntry, Mark]] | None:
        try:
            return self._adoption.published()
        except TriremeError as error:
            self._report("collections cannot be listed", error, {})
            return None

    async def _look_at(self, entry: CollectionEntry, mark: Mark) -> None:
        shelf = self._shelves.get(entry.name)
        if shelf is None:
            shelf = self._shelves[entry.name] = Shelf(entry)
        if shelf.entry.uid != entry.uid or not shelf.wants(mark, self._clock()):
            return
        started = time.perf_counter()
        try:
            snapshot = await self._in_thread(self._adoption.adopt, entry, shelf.newest)
        except TriremeError as error:
            await self._refuse(shelf, mark, error)
            return
        except Exception as error:
            log.exception("adopting failed unexpectedly")
            await self._refuse(shelf, mark, TriremeError(f"failed unexpectedly: {error}"))
            return
        shelf.adopted(mark)
        self._metrics.refused.labels(entry.name).set(0)
        if snapshot is not None:
            self._metrics.adopt_seconds.observe(time.perf_counter() - started)
            self._swap(shelf, snapshot)

    async def _refuse(self, shelf: Shelf, mark: Mark, error: TriremeError) -> None:
        """Keeps what is open, or opens an older one; comes back later, ever less often."""
        delay = shelf.refused(mark, self._clock())
        name = shelf.entry.name
        self._metrics.refused.labels(name).set(1)
        self._report("generation refused", error, {"collection": name, "retry_seconds": delay})
        if shelf.newest is None:
            older = await self._in_thread(self._adoption.adopt_older, shelf.entry)
            if older is not None:
                self._swap(shelf, older)

    def _swap(self, shelf: Shelf, snapshot: Snapshot) -> None:
        now = self._clock()
        shelf.swap(snapshot, now + self._keep_seconds, now + self._page_seconds)
        manifest, name = snapshot.manifest, shelf.entry.name
        self._metrics.serve(manifest)
        log.info(
            "generation adopted",
            extra={
                "collection": name,
                "generation": manifest.generation,
                "sequence": manifest.sequence,
                "age_seconds": round(time.time() - manifest.created_at, 3),
            },
        )
        self._announce()

    def _drop_missing(self, uids: set[str]) -> None:
        for name, shelf in list(self._shelves.items()):
            if shelf.entry.uid in uids:
                continue
            del self._shelves[name]
            close_all(shelf.snapshots())
            self._metrics.forget(name)
            log.info("collection is gone", extra={"collection": name, "uid": shelf.entry.uid})
            self._announce()

    def _drop_replaced(self) -> None:
        now = self._clock()
        for shelf in self._shelves.values():
            close_all(shelf.expired(now, self._keep_generations))
            shelf.archive.drop(now, self._page_generations)
        shelves = self._shelves.values()
        self._metrics.open_generations.set(sum(len(shelf.snapshots()) for shelf in shelves))
        self._metrics.archived_generations.set(sum(len(shelf.archive) for shelf in shelves))

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _report(self, event: str, error: TriremeError, fields: dict[str, object]) -> None:
        self._metrics.adopt_failures.labels(error.reason).inc()
        log.error(event, extra={**fields, "reason": error.reason, "why": str(error)})

    async def _in_thread(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: call(*arguments, **named))
