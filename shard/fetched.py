"""Documents as they lie in a generation, each with the passage that answers a query best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.documents import Document
from core.filters.tree import Node, conjuncts
from core.segment import Passage, Segment

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """A query of the learned-sparse leg: distinct int32 `ids`, float32 `weights` above 0."""

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where a document lies, with the passage that answers best; None if it has no passages."""

    segment: Segment
    row: int
    passage: Passage | None

    @property
    def id(self) -> str:
        """The document's id."""
        return self.segment.ids[self.row]

    def unmet(self, node: Node) -> list[str]:
        """The parts of a filter that the document does not match."""
        parts = [
            part for part in conjuncts(node) if not self.segment.filter.matching(part)[self.row]
        ]
        return [str(part) for part in parts]

    @property
    def document(self) -> Document:
        """The document as it was stored."""
        return self.segment.read(self.row).document

    @property
    def serialised(self) -> bytes:
        """The document as a trireme.v1.Document."""
        return self.segment.serialised(self.row)


def with_passages(
    rows: Sequence[tuple[Segment, int]], vector: Vector | None, terms: Terms | None
) -> list[Fetched]:
    """The documents in these rows, each with its best passage.

    That is the best by `vector`, else by `terms`, else the first.
    """
    weighed: dict[int, NDArray[np.float64]] = {}
    found = []
    for segment, row in rows:
        if terms is not None and id(segment) not in weighed:
            weighed[id(segment)] = segment.weigh_passages(terms.ids, terms.weights)
        passage = segment.best_passage(row, vector, weighed.get(id(segment)))
        found.append(Fetched(segment, row, passage))
    return found
