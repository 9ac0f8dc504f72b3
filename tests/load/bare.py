"""The published vector indexes of a shard, asked through FAISS alone, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from core.index_store import ShardStore
from core.manifest import Manifest, SegmentEntry
from core.segment import VECTORS
from core.vectors.index import VectorIndex
from core.vectors.kinds import BY_INDEX

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BareIndex:
    """One published index with the effort that its manifest gives.

    `fetched` is how many times as many candidates it is asked for as are wanted. `refined` is what
    FAISS itself offers to score these again from the same stored vectors, as the shard does; the
    index itself where that is not needed.
    """

    index: Any
    refined: Any
    effort: int
    fetched: float

    def candidates(self, query: Vectors, count: int) -> Vectors:
        """The best distances as the index has them, not scored again, float32 [n]."""
        wanted = min(round(count * self.fetched), self.index.ntotal)
        found: Vectors = self.index.search(query, wanted, params=self._parameters(wanted))[0][0]
        return found

    def search(self, query: Vectors, count: int) -> Vectors:
        """The best distances by the stored vectors, float32 [n]."""
        if self.refined is self.index:
            return self.candidates(query, count)
        library: Any = faiss
        wanted = min(count, self.index.ntotal)
        parameters = library.IndexRefineSearchParameters(
            k_factor=self.fetched,
            base_index_params=self._parameters(min(round(wanted * self.fetched), len(self))),
        )
        found: Vectors = self.refined.search(query, wanted, params=parameters)[0][0]
        return found

    def __len__(self) -> int:
        return int(self.index.ntotal)

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

    def candidates(self, vector: Vectors, count: int) -> Vectors:
        """The best distances of all segments together, not scored again, float32 [count]."""
        query = vector.reshape(1, -1)
        return _best([each.candidates(query, count) for each in self.indexes], count)

    def search(self, vector: Vectors, count: int) -> Vectors:
        """The best distances of all segments together, float32 [count]."""
        query = vector.reshape(1, -1)
        return _best([each.search(query, count) for each in self.indexes], count)


def _best(found: Sequence[Vectors], count: int) -> Vectors:
    return np.sort(np.concatenate(found))[::-1][:count]


def _open(store: ShardStore, entry: SegmentEntry) -> BareIndex:
    paths = {file.name: store.verify(file) for file in entry.files}
    index = faiss.read_index(str(paths[VECTORS]))
    kind = BY_INDEX.get(type(index).__name__)
    effort = entry.index.effort if entry.index is not None else 0
    if kind is None or kind.fetched == 1.0:
        return BareIndex(index, index, effort, 1.0)
    return BareIndex(index, _refined(index, paths, effort), effort, kind.fetched)


def _refined(index: Any, paths: Mapping[str, Path], effort: int) -> Any:
    """FAISS's refinement of an index by the half precision vectors beside it."""
    stored = VectorIndex.open(paths, effort)
    vectors = faiss.IndexScalarQuantizer(index.d, faiss.ScalarQuantizer.QT_fp16, index.metric_type)
    vectors.add(stored.decoded(slice(None)))
    return faiss.IndexRefine(index, vectors)
