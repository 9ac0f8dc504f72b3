"""What is asked of GPUs: to hold a copy of a FAISS index and to search it.

Nothing here may be used by two threads at a time, not even to give a copy up: FAISS keeps the books
of a GPU's memory without a lock. `engine` holds one. Classic GPU indexes take a selector and ignore
it without a word; only `probe` can tell.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

MOST = 2048
"""Results of one search, and lists looked into, on FAISS's classic GPU indexes."""


class DeviceFailure(Exception):
    """A GPU refused a copy or a search: out of memory, or a kind it cannot take."""


class Clone(Protocol):
    """A copy of one index on the GPUs; its memory is free again when nothing refers to it."""

    def search(
        self, query: Vectors, count: int, nprobe: int, selector: Any | None
    ) -> tuple[Vectors, Rows]:
        """FAISS's distances, float32 [m], and rows of the nearest to `query`, float32 [d].

        m is `count` or less; both are at most MOST. `nprobe` is 0 for an index without lists.
        `selector` is a FAISS IDSelector, which may be ignored: see `probe`. Raises DeviceFailure.
        """


class Device(Protocol):
    """One GPU or several that hold every index together, each a part of it."""

    gpus: tuple[int, ...]

    def clone(self, index: Any, *, float16: bool) -> Clone:
        """Copies a CPU index; raises DeviceFailure.

        With `float16` flat vectors take half the memory and scores have three digits.
        """


def bytes_on_gpus(index: Any, *, float16: bool) -> int:
    """About how many bytes a copy of an index takes on all GPUs together."""
    codes = index.ntotal * index.code_size
    if not hasattr(index, "nlist"):
        return int(codes // 2 if float16 else codes)
    return int(codes + 8 * index.ntotal + 4 * index.nlist * index.d)
