"""The vectors of one segment, searched: exactly if they are few, else by candidates.

Whatever the kind, the score of a found row is computed from its stored vector, so that it is the
same in every search, and as many rows are found as were asked for.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from core.masks import EXACT, OVER_FETCH, SELECTOR
from core.similarity import DOT, EUCLIDEAN, MANHATTAN, similarities
from core.vectors.engine import CpuEngine, Engine
from core.vectors.kinds import BY_INDEX, FLAT, KINDS, Kind
from core.vectors.selection import Selection
from core.vectors.stored import F32, PRECISIONS, StoredVectors, name_of

INDEX_FILE = "vectors.faiss"
FILES = (INDEX_FILE, *(name_of(precision) for precision in PRECISIONS))

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_FLAT_CLASSES = ("IndexFlat", "IndexFlatIP", "IndexFlatL2")
_SIMILARITIES = {
    faiss.METRIC_INNER_PRODUCT: DOT,
    faiss.METRIC_L2: EUCLIDEAN,
    faiss.METRIC_L1: MANHATTAN,
}
# Scoring so many rows one by one costs less than finding candidates among them.
_FEW_ROWS = 1024
# Below this share of the rows an index looks at more of them than there are to be found.
_SMALL_SHARE = 1 / 32
_SPARE = 32
# Codes rank the very nearest loosely: with fewer wanted, as many candidates are scored as for this.
_LEAST_WANTED = 100
# What a search that comes upon too few rows multiplies its effort by, in the end to all lists,
# before it goes exact: reading every code of an index costs less than every vector beside it.
_FURTHER = (1, 8, 64, 4096)
_BLOCK = 8192


class VectorIndex:
    """Immutable, safe to share between threads.

    `similarity` is "dot" for cosine too: of vectors of length 1 both are the inner product.
    `effort` is nprobe or efSearch. `faiss_index` is the index as it was published.
    """

    def __init__(self, index: Any, kind: Kind, stored: StoredVectors, effort: int) -> None:
        self.faiss_index = index
        self.kind = kind
        self.stored = stored
        self.effort = effort
        self.similarity = _SIMILARITIES[index.metric_type]
        self._count = int(index.ntotal)
        self.engine: Engine = CpuEngine(index)

    @classmethod
    def open(cls, paths: Mapping[str, Path], effort: int = 0) -> VectorIndex:
        """Maps verified files, by their names; raises ValueError if they are no vector index."""
        index = faiss.read_index(str(paths[INDEX_FILE]), faiss.IO_FLAG_MMAP_IFC)
        class_name = type(index).__name__
        kind = KINDS[FLAT] if class_name in _FLAT_CLASSES else BY_INDEX.get(class_name)
        if kind is None or index.metric_type not in _SIMILARITIES:
            raise ValueError(f"{INDEX_FILE} is a {class_name}")
        return cls(index, kind, _open_stored(paths, kind, index), effort)

    def on(self, engine: Engine) -> VectorIndex:
        """The same index, with candidates found by another engine."""
        moved = copy.copy(self)
        moved.engine = engine
        return moved

    def __len__(self) -> int:
        return self._count

    @property
    def dimension(self) -> int:
        """Components per vector."""
        return int(self.faiss_index.d)

    @property
    def is_exact(self) -> bool:
        """Whether every search looks at every vector, as it is stored."""
        return self.kind.name == FLAT and self.engine.exact

    def decoded(self, rows: Rows | slice) -> Vectors:
        """The vectors in these rows as they are stored, float32 [n, dimension]."""
        return self.stored.decoded(rows)

    def scores_of(self, rows: Rows | slice, query: Vectors) -> Vectors:
        """The rounded scores of these rows."""
        return similarities(self.decoded(rows), query, self.similarity)

    def search(
        self, query: Vectors, count: int, selection: Selection | None
    ) -> tuple[Vectors, Rows]:
        """Scores and rows of the `count` vectors most similar to `query`, best first.

        Only rows of `selection` are found (None: all), and as many as there are if `count` is more.
        Scores of a flat index are as FAISS gives them, not yet rounded to `similarity.decimals`.
        """
        count = min(count, selection.count if selection is not None else len(self))
        if not count:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        if self.is_exact:
            found, rows = self.engine.search(query, count, selection, 0)
            return self._scores(found), rows
        if self.strategy(count, selection) != EXACT:
            for further in _FURTHER:
                rows = self._candidates(query, count, selection, further)
                if len(rows) >= count:
                    return _best(self.scores_of(rows, query), rows, count)
        return self.search_exactly(query, count, selection)

    def search_exactly(
        self, query: Vectors, count: int, selection: Selection | None = None
    ) -> tuple[Vectors, Rows]:
        """What `search` gives, by scoring every row that may be found."""
        rows = selection.rows if selection is not None else np.arange(len(self))
        blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
        scores = [np.zeros(0, np.float32), *(self.scores_of(block, query) for block in blocks)]
        return _best(np.concatenate(scores), rows, count)

    def strategy(self, count: int, selection: Selection | None) -> str:
        """How `search` goes about it: EXACT scores all that may be found.

        SELECTOR looks at some of these, OVER_FETCH at others too.
        """
        findable = selection.count if selection is not None else len(self)
        if self.is_exact or findable <= _FEW_ROWS or self._fetched(count) * 4 >= findable:
            return EXACT
        is_rare = selection is not None and selection.share < _SMALL_SHARE
        if is_rare:
            return EXACT
        return SELECTOR if self.engine.selects else OVER_FETCH

    def _candidates(
        self, query: Vectors, count: int, selection: Selection | None, further: int
    ) -> Rows:
        """Rows worth scoring; fewer than `count` if the engine does not find as many.

        The wider apart the selected rows lie, the further it looks, and `further` times that.
        """
        share = selection.share if selection is not None else 1.0
        fetched = self._fetched(count)
        effort = round(max(self.effort, self._least_effort(fetched)) * further / share)
        return self.engine.search(query, fetched, selection, effort)[1]

    def _least_effort(self, fetched: int) -> int:
        """Lists that would hold twice as many rows as are looked for, were all lists alike."""
        if not self.kind.has_lists:
            return 0
        return math.ceil(2 * fetched * int(self.faiss_index.nlist) / len(self))

    def _fetched(self, count: int) -> int:
        if self.kind.fetched == 1.0 and self.engine.exact:
            return count
        return round(max(count, _LEAST_WANTED) * self.kind.fetched) + _SPARE

    def _scores(self, found: Vectors) -> Vectors:
        """What FAISS returns as scores: it squares L2 distances and negates nothing."""
        if self.similarity == EUCLIDEAN:
            found = np.sqrt(np.maximum(found, 0))
        return found if self.similarity == DOT else np.negative(found)

    def __repr__(self) -> str:
        return f"<VectorIndex {self.kind.name}, {len(self)} vectors, effort {self.effort}>"


def _best(scores: Vectors, rows: Rows, count: int) -> tuple[Vectors, Rows]:
    """The `count` best, best first, ties by ascending row."""
    if count < len(scores):
        kept = np.sort(np.argpartition(-scores, count - 1)[:count])
        scores, rows = scores[kept], rows[kept]
    order = np.argsort(-scores, kind="stable")
    return scores[order], rows[order]


def _open_stored(paths: Mapping[str, Path], kind: Kind, index: Any) -> StoredVectors:
    count, dimension = int(index.ntotal), int(index.d)
    if kind.name == FLAT:
        return StoredVectors(_flat_vectors(index), F32)
    for precision in PRECISIONS:
        if name_of(precision) in paths:
            path = paths[name_of(precision)]
            return StoredVectors.open(path, precision, rows=count, dimension=dimension)
    raise ValueError(f"the vectors of a {kind.name} index are not beside it")


def _flat_vectors(index: Any) -> Vectors:
    """All vectors, float32 [n, dimension], as they lie in a flat index."""
    if not index.ntotal:
        return np.zeros((0, index.d), np.float32)
    flat = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    flat.flags.writeable = False
    vectors: Vectors = flat.reshape(index.ntotal, index.d)
    return vectors
