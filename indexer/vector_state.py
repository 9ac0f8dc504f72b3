"""Which kinds of vector index a shard's published segments have, and how well these do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.manifest import SegmentEntry
from core.vectors.kinds import FLAT


@dataclass(frozen=True, slots=True)
class VectorState:
    """`kinds` counts segments by kind; `recall` is the lowest measured one, 1 if all are exact."""

    kinds: Mapping[str, int] = field(default_factory=dict)
    recall: float = 1.0

    @classmethod
    def of(cls, segments: Iterable[SegmentEntry]) -> VectorState:
        """That of a manifest's segments."""
        entries = [segment.index for segment in segments]
        kinds = Counter(entry.kind if entry is not None else FLAT for entry in entries)
        measured = [entry.recall for entry in entries if entry is not None]
        return cls(dict(kinds), min(measured, default=1.0))
