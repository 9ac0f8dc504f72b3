"""Which documents of some segments a query may find, as truth values that every leg understands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.bool_]
"""One truth value per document row of a segment, or per place."""


# How a leg finds the best of the documents that a mask holds: by scoring every one, by an index
# that looks at no others, or by asking an index for more than wanted.
EXACT, SELECTOR, OVER_FETCH = "EXACT", "SELECTOR", "OVER_FETCH"


class Mask:
    """Living documents only; immutable and safe to share between threads.

    A place is a document's row, counted on through the segments. `places` holds one truth value for
    each, `parts` the same per segment, `counts` how many are true in each segment.
    """

    def __init__(self, parts: Sequence[Truth]) -> None:
        self.places: Truth = np.concatenate([np.zeros(0, np.bool_), *parts])
        self.places.flags.writeable = False
        ends = list(itertools.accumulate(len(part) for part in parts))
        starts = [0, *ends[:-1]]
        self.parts = [self.places[a:b] for a, b in zip(starts, ends, strict=False)]
        self.counts = [int(np.count_nonzero(part)) for part in self.parts]
        self.count = sum(self.counts)

    def __repr__(self) -> str:
        return f"<Mask {self.count} of {len(self.places)} documents>"
