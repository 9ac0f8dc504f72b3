"""What the indexer keeps in memory of a segment: which documents it holds and which are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.segment import Segment


@dataclass(slots=True, eq=False)
class SegmentRows:
    """One segment's documents, by row.

    `sequences` int64 ascending, `passages` int32 (how many each has), `dead` bool.
    """

    sequences: NDArray[np.int64]
    passages: NDArray[np.int32]
    dead: NDArray[np.bool_]

    @classmethod
    def of(cls, sequences: Sequence[int], passages: Sequence[int]) -> SegmentRows:
        """The rows of a segment that was just written."""
        return cls(
            np.array(sequences, np.int64),
            np.array(passages, np.int32),
            np.zeros(len(sequences), np.bool_),
        )

    @classmethod
    def read(cls, segment: Segment) -> SegmentRows:
        """The rows of an open segment, which is not needed afterwards."""
        owners = segment.passages["document"].to_numpy()
        count = len(segment.documents)
        return cls(
            np.array(segment.documents["sequence"].to_numpy(), np.int64),
            np.bincount(owners, minlength=count).astype(np.int32),
            np.array(segment.dead, np.bool_),
        )

    def kill(self, sequences: NDArray[np.int64]) -> int:
        """Marks the given documents that are here as dead; returns how many were not yet."""
        if not len(self.sequences) or not len(sequences):
            return 0
        rows = np.minimum(np.searchsorted(self.sequences, sequences), len(self.sequences) - 1)
        rows = rows[self.sequences[rows] == sequences]
        newly = int((~self.dead[rows]).sum())
        self.dead[rows] = True
        return newly

    @property
    def dead_documents(self) -> int:
        """Documents not to be found."""
        return int(self.dead.sum())

    @property
    def dead_passages(self) -> int:
        """Their passages."""
        return int(self.passages[self.dead].sum())
