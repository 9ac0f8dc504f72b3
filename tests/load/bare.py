"""The published vector indexes of a shard, asked through FAISS alone, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from core.index_store import ShardStore
from core.manifest import Manifest, SegmentEntry
from core.segment import VECTORS
from core.vectors.kinds import BY_INDEX

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BareIndex:
    """One published index with the effort that its manifest gives.

    `fetched` is how many times as many candidates it is asked for as are wanted, since the shard
    scores them again; FAISS alone is not charged for that scoring.
    """

    index: Any
    effort: int
    fetched: float

    def search(self, query: Vectors, count: int) -> Vectors:
        """The best distances of one query, float32 [1, dimension]."""
        wanted = min(round(count * self.fetched), self.index.ntotal)
        found: Vectors = self.index.search(query, wanted, params=self._parameters(wanted))[0][0]
        return found

    def _parameters(self, wanted: int) -> Any:
        library: Any = faiss
        if isinstance(self.index, faiss.IndexIVF):
            return library.SearchParametersIVF(nprobe=self.effort)
        if isinstance(self.index, faiss.IndexHNSW):
            return library.SearchParametersHNSW(efSearch=max(self.effort, wanted))
        return None


@dataclass(frozen=True, slots=True)
class BareShard:
    """One FAISS index per segment, searched one after the other."""

    indexes: tuple[BareIndex, ...]

    @classmethod
    def open(cls, store: ShardStore, manifest: Manifest) -> BareShard:
        """Reads the index of every segment; searches then use one thread, as shards do."""
        faiss.omp_set_num_threads(1)
        return cls(tuple(_open(store, entry) for entry in manifest.segments))

    def search(self, vector: Vectors, count: int) -> Vectors:
        """The best distances of all segments together, float32 [count]."""
        query = vector.reshape(1, -1)
        found = [each.search(query, count) for each in self.indexes]
        return np.sort(np.concatenate(found))[::-1][:count]


def _open(store: ShardStore, entry: SegmentEntry) -> BareIndex:
    file = next(file for file in entry.files if file.name == VECTORS)
    index = faiss.read_index(str(store.verify(file)))
    kind = BY_INDEX.get(type(index).__name__)
    effort = entry.index.effort if entry.index is not None else 0
    return BareIndex(index, effort, kind.fetched if kind is not None else 1.0)
