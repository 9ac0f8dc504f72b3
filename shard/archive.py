"""What is kept of replaced generations: their documents, for later pages of answers.

An answer's candidates were alive in its generation, so each is the newest version of its id among
that generation's segments, whatever was buried later. An archived generation is therefore no more
than a list of segments, and these are shared by all generations that have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np

from core.manifest import FileEntry, Manifest
from core.segment import Segment
from core.segment_tables import keys_of
from shard.fetched import Fetched, Terms, Vector, with_passages
from shard.snapshot import Snapshot


class Archived:
    """A generation that can be asked for the documents that it had, and for nothing else.

    `manifest` is its manifest without files.
    """

    def __init__(self, manifest: Manifest, segments: Sequence[Segment]) -> None:
        self.manifest = manifest
        self.segments = segments

    def fetch(
        self, ids: Sequence[str], vector: Vector | None, terms: Terms | None = None
    ) -> list[Fetched]:
        """The documents of these ids, in this order, with their best passages.

        Ids must be of documents that were alive; others may be returned as they once were.
        """
        if not ids:
            return []
        keys = keys_of(ids)
        holders, rows = np.full(len(ids), -1), np.full(len(ids), -1)
        newest = np.full(len(ids), -1)
        for number, segment in enumerate(self.segments):
            own = segment.find_ids(ids, keys, dead_too=True)
            here = np.flatnonzero(own >= 0)
            newer = here[segment.sequences[own[here]] > newest[here]]
            holders[newer], rows[newer] = number, own[newer]
            newest[newer] = segment.sequences[own[newer]]
        found = [
            (self.segments[holder], row)
            for holder, row in zip(holders.tolist(), rows.tolist(), strict=True)
            if row >= 0
        ]
        return with_passages(found, vector, terms)


class Archive:
    """The archived generations of one collection. No I/O; time is an argument."""

    def __init__(self) -> None:
        self._archived: list[tuple[float, Archived]] = []
        # One object per segment: those of later generations differ only in what is dead.
        self._segments: WeakValueDictionary[tuple[FileEntry, ...], Segment] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._archived)

    def add(self, snapshot: Snapshot, drop_at: float) -> None:
        """Keeps the documents of a generation until `drop_at`."""
        segments = [
            self._segments.setdefault(entry.files, segment)
            for entry, segment in zip(snapshot.manifest.segments, snapshot.segments, strict=True)
        ]
        # Its lists of files are by far the largest part.
        manifest = replace(snapshot.manifest, segments=(), lexical=())
        self._archived.append((drop_at, Archived(manifest, segments)))

    def find(self, generation: int) -> Archived | None:
        """The archived generation of this number."""
        for _, archived in reversed(self._archived):
            if archived.manifest.generation == generation:
                return archived
        return None

    def drop(self, now: float, at_most: int) -> None:
        """Lets go of generations whose time has come, and of the oldest above `at_most`."""
        kept = [item for item in self._archived if item[0] > now]
        self._archived = kept[max(0, len(kept) - at_most) :]
