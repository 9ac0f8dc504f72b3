"""Opens the segments of a generation; those of the one before are not opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from core.index_store import ShardStore, check_counts
from core.manifest import SegmentEntry
from core.searching import nearest_documents
from core.segment import Segment
from core.vectors.index import VectorIndex

Place = Callable[[VectorIndex], VectorIndex]
"""Where a vector index that was just opened is to be searched."""


def on_cpu(index: VectorIndex) -> VectorIndex:
    """Where it is."""
    return index


def open_segments(
    store: ShardStore,
    entries: Sequence[SegmentEntry],
    opened: Iterable[tuple[SegmentEntry, Segment]],
    place: Place = on_cpu,
) -> list[Segment]:
    """Verifies and opens segments, or takes them from `opened` with what has died since.

    Raises CorruptFile if one is not what its entry says, or cannot be searched.
    """
    known = {entry.id: (entry, segment) for entry, segment in opened}
    return [_open_segment(store, entry, known.get(entry.id), place) for entry in entries]


def _open_segment(
    store: ShardStore,
    entry: SegmentEntry,
    opened: tuple[SegmentEntry, Segment] | None,
    place: Place,
) -> Segment:
    if opened is None or opened[0].files != entry.files:
        segment = store.open_segment(entry).placed(place)
        nearest_documents([segment], np.linspace(-1, 1, segment.dimension, dtype=np.float32), 1)
        return segment
    before, segment = opened
    if before.dead != entry.dead:
        segment = segment.with_dead(store.verify(entry.dead) if entry.dead is not None else None)
    check_counts(segment, entry)
    return segment
