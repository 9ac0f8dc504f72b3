"""Exact nearest neighbours: a FAISS flat index of one similarity."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from core import fsops
from core.similarity import DOT, EUCLIDEAN, MANHATTAN, similarities

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_METRICS = {EUCLIDEAN: faiss.METRIC_L2, MANHATTAN: faiss.METRIC_L1}
_SIMILARITIES = {
    faiss.METRIC_INNER_PRODUCT: DOT,
    faiss.METRIC_L2: EUCLIDEAN,
    faiss.METRIC_L1: MANHATTAN,
}
_KINDS = (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2)


class Selection:
    """The rows of an index that may be found: `alive` holds one truth value per row."""

    def __init__(self, alive: NDArray[np.bool_]) -> None:
        # FAISS reads the bits in place.
        self._bits = np.packbits(alive, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(alive), faiss.swig_ptr(self._bits))
        self.parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]


class FlatIndex:
    """Vectors as they were written, searched one by one; safe to share between threads.

    `similarity` is "dot" for cosine too: of vectors of length 1 both are the inner product.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self.similarity = _SIMILARITIES[index.metric_type]

    @classmethod
    def open(cls, path: Path) -> FlatIndex:
        """Reads a verified file into memory; raises ValueError if it is no flat index."""
        index = faiss.read_index(str(path))
        if type(index) not in _KINDS or index.metric_type not in _SIMILARITIES:
            raise ValueError(f"{path.name} is a {type(index).__name__}")
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Components per vector."""
        return int(self._index.d)

    @cached_property
    def vectors(self) -> Vectors:
        """All vectors, float32 [n, dimension], as they lie in the index: read only."""
        count = len(self)
        if not count:
            return np.zeros((0, self.dimension), np.float32)
        flat = faiss.rev_swig_ptr(self._index.get_xb(), count * self.dimension)
        flat.flags.writeable = False
        return flat.reshape(count, self.dimension)

    def search(
        self, query: Vectors, count: int, selection: Selection | None
    ) -> tuple[Vectors, Rows]:
        """Scores and rows of the `count` vectors most similar to `query`, best first.

        Scores are as FAISS gives them, not yet rounded to `similarity.decimals`. `count` is at most
        the number of rows in `selection` (None: of all rows).
        """
        parameters = selection.parameters if selection is not None else None
        found, rows = self._index.search(query.reshape(1, -1), count, params=parameters)
        return self._scores(found[0]), rows[0]

    def scores(self, first: int, end: int, query: Vectors) -> Vectors:
        """The rounded scores of a range of rows."""
        return similarities(self.vectors[first:end], query, self.similarity)

    def _scores(self, found: Vectors) -> Vectors:
        """What FAISS returns as scores: it squares L2 distances and negates nothing."""
        if self.similarity == EUCLIDEAN:
            found = np.sqrt(np.maximum(found, 0))
        return found if self.similarity == DOT else np.negative(found)


def write_flat(path: Path, vectors: Vectors, similarity: str) -> None:
    """Writes vectors, float32 [n, dimension], as an index of a similarity."""
    metric = _METRICS.get(similarity, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexFlat(vectors.shape[1], metric)
    index.add(np.ascontiguousarray(vectors, np.float32))
    # faiss.write_index would only print that the last block did not fit on the disk.
    fsops.write_file(path, faiss.serialize_index(index).data)
