"""The part of a search that FAISS does, on the processor; `core.gpu` has one for graphics cards."""

from __future__ import annotations

from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from core.vectors.selection import Selection

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]


class Engine(Protocol):
    """Finds candidates; how well they answer is for `VectorIndex` to say.

    `exact` says that it compares vectors as the index holds them, not in fewer digits, `selects`
    that it looks at no others than those selected.
    """

    exact: bool
    selects: bool

    def search(
        self, query: Vectors, count: int, selection: Selection | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """Up to `count` of the selected rows, best first, with FAISS's own distances."""


class CpuEngine:
    """A FAISS index as it is."""

    exact = True
    selects = True

    def __init__(self, index: Any) -> None:
        self._index = index
        self._dimension = int(index.d)

    def search(
        self, query: Vectors, count: int, selection: Selection | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """As Engine says; `effort` is nprobe or efSearch, 0 for an index without."""
        parameters = self._parameters(selection, count, effort)
        query = np.ascontiguousarray(query, np.float32)
        assert query.shape == (self._dimension,)
        found, rows = np.empty(count, np.float32), np.empty(count, np.int64)
        given, distances, labels = (faiss.swig_ptr(each) for each in (query, found, rows))
        # What FAISS's own wrapper adds costs more than searching a small segment.
        self._index.search_c(1, given, count, distances, labels, parameters)
        kept = count if rows[-1] >= 0 else int(np.count_nonzero(rows >= 0))
        return found[:kept], rows[:kept]

    def _parameters(self, selection: Selection | None, count: int, effort: int) -> Any:
        chosen: dict[str, Any] = {"sel": selection.selector} if selection is not None else {}
        if isinstance(self._index, faiss.IndexIVF):
            nprobe = min(effort, self._index.nlist)
            return faiss.SearchParametersIVF(nprobe=nprobe, **chosen)  # type: ignore[call-arg]
        if isinstance(self._index, faiss.IndexHNSW):
            wide = max(effort, count)
            return faiss.SearchParametersHNSW(efSearch=wide, **chosen)  # type: ignore[attr-defined]
        return faiss.SearchParameters(**chosen) if chosen else None
