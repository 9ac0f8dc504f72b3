"""Filters of one segment's documents: columns opened at the first use, answers remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.filters.columns import AttributeColumns
from core.filters.evaluation import matching
from core.filters.tree import Node
from core.masks import Truth

_REMEMBERED = 32
"""Answers kept per segment: 4 bytes for each of its documents."""


class DocumentFilter:
    """Says which documents of a segment match; safe to share between threads.

    `open_columns` is called once, when the first filter comes: for segments of earlier formats,
    which are not `is_stored`, it reads every document. `ids` are the documents', large strings.
    """

    def __init__(
        self, open_columns: Callable[[], AttributeColumns], ids: pa.ChunkedArray, *, is_stored: bool
    ) -> None:
        self.is_stored = is_stored
        self._open_columns = open_columns
        self._ids = ids.chunk(0) if ids.num_chunks else pa.array([], ids.type)
        self._opened: AttributeColumns | None = None
        self._opening = threading.Lock()
        self._answers: OrderedDict[Node, NDArray[np.uint8]] = OrderedDict()
        self._remembering = threading.Lock()

    @property
    def columns(self) -> AttributeColumns:
        """The columns of all documents, dead ones included."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open_columns()
            return self._opened

    def matching(self, node: Node) -> Truth:
        """Which documents match, bool [documents], dead ones included."""
        count = len(self._ids)
        with self._remembering:
            packed = self._answers.get(node)
            if packed is not None:
                self._answers.move_to_end(node)
        if packed is not None:
            return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
        truth = matching(node, self.columns, self._ids)
        with self._remembering:
            self._answers[node] = np.packbits(truth, bitorder="little")
            while len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return truth

    def __repr__(self) -> str:
        state = "closed" if self._opened is None else repr(self._opened)
        return f"<DocumentFilter {len(self._answers)} remembered, {state}>"
