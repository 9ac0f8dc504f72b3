"""A run of changes on its way from the feed into an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.encoding import SparseVector
from indexer.changes import Change
from indexer.passages import Split

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Place:
    """How far in a shard's feed: everything up to `sequence`, whose chain is `chain`."""

    sequence: int
    chain: str


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A document split into passages; if there are none, `failure` says why."""

    change: Change
    passages: Sequence[Split] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A document ready for the index: `vectors` is float32 [passages, dimension].

    `terms` has the weighted terms of each passage if the collection has a learned-sparse leg.
    """

    change: Change
    passages: Sequence[Split]
    vectors: Vectors
    terms: Sequence[SparseVector] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one generation adds: documents by ascending sequence, and what they replace."""

    end: Place
    documents: Sequence[Embedded]
    deleted_ids: Sequence[str] = ()
    replaced: Sequence[int] = ()
    oldest_micros: int = 0
