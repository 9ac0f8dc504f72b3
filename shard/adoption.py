"""What a shard finds in the index store and opens from it. Blocking: for a thread of its own."""

from __future__ import annotations

import logging
from functools import lru_cache

from core.errors import TriremeError
from core.index_store import CollectionEntry, IndexStore, ShardStore
from core.manifest import Manifest
from core.names import Names
from shard.opening import Place, on_cpu
from shard.scratch import Scratch
from shard.shelf import Mark
from shard.snapshot import Snapshot

log = logging.getLogger(__name__)

# How many generations back to look for one that opens, when none is open yet.
_FALLBACKS = 3


class Adoption:
    """Opens generations of one shard number."""

    def __init__(
        self, store: IndexStore, scratch: Scratch, shard: int, place: Place = on_cpu
    ) -> None:
        self._store = store
        self._scratch = scratch
        self._shard = shard
        self._place = place
        self._names_of = lru_cache(1)(Names.from_bytes)

    def published(self) -> list[tuple[CollectionEntry, Mark]]:
        """Collections with a part here, each with the mark of its CURRENT.

        Raises CorruptFile or NewerFormat if they cannot be listed.
        """
        return [
            (entry, self._shard_store(entry).current_mark())
            for entry in self._store.collections()
            if self._shard < entry.shard_count
        ]

    def names(self) -> Names:
        """What names stand for; raises CorruptFile."""
        return self._names_of(self._store.read_names())

    def adopt(self, entry: CollectionEntry, newest: Snapshot | None) -> Snapshot | None:
        """Opens the current generation; None if it is not above the one that is open.

        Raises CorruptFile, NewerFormat or ModelMismatch if it must not be served.
        """
        store = self._shard_store(entry)
        manifest = store.read_current()
        if manifest is None or (newest is not None and manifest.order <= newest.manifest.order):
            return None
        return self._open(store, manifest, newest)

    def adopt_older(self, entry: CollectionEntry) -> Snapshot | None:
        """Opens the last good generation below the current one, None if there is none.

        Only committed generations are candidates: those that the current one names, link by link.
        """
        store = self._shard_store(entry)
        try:
            manifest = store.read_current()
            for _ in range(_FALLBACKS):
                manifest = store.previous(manifest) if manifest is not None else None
                if manifest is not None and (snapshot := self._try(store, manifest)) is not None:
                    return snapshot
        except TriremeError as error:
            log.warning("no older generation", extra={"collection": entry.name, "why": str(error)})
        return None

    def _try(self, store: ShardStore, manifest: Manifest) -> Snapshot | None:
        try:
            return self._open(store, manifest, None)
        except TriremeError:
            return None

    def _open(self, store: ShardStore, manifest: Manifest, newest: Snapshot | None) -> Snapshot:
        directory = self._scratch.new_directory()
        return Snapshot.open(store, manifest, directory, newest, self._place)

    def _shard_store(self, entry: CollectionEntry) -> ShardStore:
        return self._store.shard(entry.uid, self._shard)
