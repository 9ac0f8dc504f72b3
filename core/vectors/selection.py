"""The rows of an index that a search may find."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


class Selection:
    """`alive` holds one truth value per row, `count` how many are true; immutable."""

    def __init__(self, alive: NDArray[np.bool_]) -> None:
        self.alive = alive
        self.count = int(np.count_nonzero(alive))

    @property
    def share(self) -> float:
        """The part of all rows that may be found, 0 to 1."""
        return self.count / len(self.alive) if len(self.alive) else 1.0

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The rows that may be found, ascending."""
        return np.flatnonzero(self.alive)

    @property
    def selector(self) -> Any:
        """The same for FAISS."""
        return self._bits_and_selector[1]

    @cached_property
    def _bits_and_selector(self) -> tuple[NDArray[np.uint8], Any]:
        # FAISS reads the bits in place: they must live as long as the selector.
        bits = np.packbits(self.alive, bitorder="little")
        return bits, faiss.IDSelectorBitmap(len(self.alive), faiss.swig_ptr(bits))

    def __repr__(self) -> str:
        return f"<Selection {self.count} of {len(self.alive)} rows>"
