"""One search on a GPU, or on the CPU where the GPU cannot answer it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.gpu.device import MOST, Clone, DeviceFailure, Rows, Vectors
from core.vectors.engine import Engine
from core.vectors.selection import Selection

Fallback = Callable[[str], None]
"""Told why the CPU answered for a GPU: `limits`, `filter` or `failure`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a clone is like: its `rows`, its `lists` (0 without), whether it heeds selectors.

    `exact` says that its scores are those of the published vectors.
    """

    rows: int
    lists: int
    selects: bool
    exact: bool


class GpuEngine:
    """Searches a clone, under the lock that all clones of a device share.

    Where selectors are not heeded, it asks for more than is wanted and drops what may not be
    found; if even the most that a GPU returns does not hold enough, the CPU searches.
    """

    def __init__(
        self,
        cpu: Engine,
        clone: Clone,
        lock: threading.RLock,
        on_fallback: Fallback,
        shape: Shape,
    ) -> None:
        self.exact = shape.exact
        self.selects = shape.selects
        self._cpu = cpu
        self._clone: Clone | None = clone
        self._lock = lock
        self._on_fallback = on_fallback
        self._shape = shape

    def search(
        self, query: Vectors, count: int, selection: Selection | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """As Engine says."""
        effort = min(effort, self._shape.lists)
        if count > MOST or effort > MOST:
            return self._on_cpu("limits", query, count, selection, effort)
        try:
            if selection is None or self._shape.selects:
                selector = None if selection is None else selection.selector
                return self._on_gpu(query, count, effort, selector)
            found = self._over_fetched(query, count, selection, effort)
        except DeviceFailure:
            return self._on_cpu("failure", query, count, selection, effort)
        if found is None:
            return self._on_cpu("filter", query, count, selection, effort)
        return found

    def _over_fetched(
        self, query: Vectors, count: int, selection: Selection, effort: int
    ) -> tuple[Vectors, Rows] | None:
        """The best rows of a selection out of more rows; None if the most are too few."""
        for wanted in fetch_plan(count, selection.count, self._shape.rows):
            distances, rows = self._on_gpu(query, wanted, effort, None)
            kept = selection.alive[rows]
            exhausted = len(rows) < wanted or wanted >= self._shape.rows
            if exhausted or int(kept.sum()) >= count:
                return distances[kept][:count], rows[kept][:count]
        return None

    def _on_gpu(
        self, query: Vectors, count: int, effort: int, selector: Any | None
    ) -> tuple[Vectors, Rows]:
        with self._lock:
            assert self._clone is not None
            return self._clone.search(query, min(count, self._shape.rows), effort, selector)

    def _on_cpu(
        self, why: str, query: Vectors, count: int, selection: Selection | None, effort: int
    ) -> tuple[Vectors, Rows]:
        self._on_fallback(why)
        return self._cpu.search(query, count, selection, effort)

    def __del__(self) -> None:
        # Whichever thread drops the last reference gives the GPU's memory back.
        with self._lock:
            self._clone = None


def fetch_plan(count: int, selected: int, rows: int) -> list[int]:
    """How many to ask for, try after try, so that `count` of `selected` out of `rows` are in it.

    As many as would do if what may be found lay evenly among the nearest, and half as many again;
    then all that a GPU returns. Empty if even so many would not do on average.
    """
    most = min(rows, MOST)
    needed = math.ceil(count * rows / max(1, selected))
    if needed > most:
        return []
    first = min(most, needed + needed // 2 + 8)
    return [first, most] if first < most else [most]
