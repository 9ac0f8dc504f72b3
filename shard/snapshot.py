"""One open generation: both legs and the documents, swapped in and out as one object."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import fsops
from core.documents import Document
from core.errors import CorruptFile, ModelMismatch
from core.index_store import ShardStore, check_counts
from core.lexical import LexicalReader
from core.manifest import Manifest, SegmentEntry
from core.segment import Passage, Segment, keys_of, nearest_documents

Vector = NDArray[np.float32]


class Candidate(NamedTuple):
    """A document in one leg, with the leg's own score."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document with the passage that answers best; None if it has no passages."""

    document: Document
    passage: Passage | None


class Snapshot:
    """A generation as it is searched: immutable and shared between threads."""

    def __init__(
        self,
        manifest: Manifest,
        segments: Sequence[Segment],
        lexical: LexicalReader,
        directory: Path,
    ) -> None:
        self.manifest = manifest
        self._segments = tuple(segments)
        self._lexical = lexical
        self._directory = directory
        self._ids: list[str] = []
        for segment in segments:
            self._ids += segment.ids
        sequences = np.concatenate([np.zeros(0, np.int64), *(s.sequences for s in segments)])
        self._by_sequence = np.argsort(sequences, kind="stable")
        self._sequences = sequences[self._by_sequence]

    @classmethod
    def open(
        cls, store: ShardStore, manifest: Manifest, directory: Path, previous: Snapshot | None
    ) -> Snapshot:
        """Verifies and opens a generation; segments that `previous` has open are shared with it.

        `directory` must not exist; Tantivy's view is put there and removed by `close`. Raises
        CorruptFile if anything is not what the manifest says.
        """
        segments = _open_segments(store, manifest, previous)
        with fsops.storage_errors(directory):
            directory.mkdir(parents=True)
        try:
            store.materialise(manifest.lexical, directory)
            snapshot = cls(manifest, segments, LexicalReader.open(directory), directory)
            snapshot._check()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return snapshot

    def close(self) -> None:
        """Removes Tantivy's view. Searches that still run are not disturbed: files stay mapped."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def search_lexical(self, query: str, limit: int) -> list[Candidate]:
        """The best `limit` documents by BM25, ties by ascending id."""
        sequences, scores = self._lexical.search(query, limit)
        places = self._by_sequence[np.searchsorted(self._sequences, sequences)].tolist()
        ids = self._ids
        return _best(
            [(ids[place], score) for place, score in zip(places, scores, strict=True)], limit
        )

    def search_dense(self, vector: Vector, limit: int) -> list[Candidate]:
        """The best `limit` documents by their best passage, ties by ascending id."""
        places, scores = nearest_documents(self._segments, vector, limit)
        ids = self._ids
        return _best(
            [(ids[place], score) for place, score in zip(places, scores, strict=True)], limit
        )

    def fetch(self, ids: Sequence[str], vector: Vector | None) -> list[Fetched]:
        """The documents of these ids that are here, in this order, each with its best passage."""
        keys = keys_of(ids)
        places: list[tuple[Segment, int] | None] = [None] * len(ids)
        for segment in self._segments:
            rows = segment.find_ids(ids, keys)
            for number in np.flatnonzero(rows >= 0):
                places[number] = segment, int(rows[number])
        return [
            Fetched(segment.read(row).document, segment.best_passage(row, vector))
            for segment, row in filter(None, places)
        ]

    def _check(self) -> None:
        """Raises CorruptFile unless both legs hold what the manifest says and can be searched."""
        live = sum(len(segment.live_rows) for segment in self._segments)
        if not live == self._lexical.document_count == self.manifest.documents:
            raise CorruptFile(
                f"generation {self.manifest.generation} should have {self.manifest.documents} "
                f"documents, its segments have {live}, its lexical index has "
                f"{self._lexical.document_count}"
            )
        dimension = self.manifest.encoder.dimension
        if any(segment.dimension != dimension for segment in self._segments):
            raise ModelMismatch(f"a segment's vectors do not have {dimension} components")
        self.search_lexical("canary", 1)

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"<Snapshot {manifest.collection} generation {manifest.generation}, "
            f"{manifest.documents} documents in {len(self._segments)} segments>"
        )

    def _opened(self) -> dict[str, tuple[SegmentEntry, Segment]]:
        return {
            entry.id: (entry, segment)
            for entry, segment in zip(self.manifest.segments, self._segments, strict=True)
        }


def _open_segments(
    store: ShardStore, manifest: Manifest, previous: Snapshot | None
) -> list[Segment]:
    opened = previous._opened() if previous is not None else {}
    return [_open_segment(store, entry, opened.get(entry.id)) for entry in manifest.segments]


def _open_segment(
    store: ShardStore, entry: SegmentEntry, opened: tuple[SegmentEntry, Segment] | None
) -> Segment:
    if opened is None or opened[0].files != entry.files:
        segment = store.open_segment(entry)
        nearest_documents([segment], np.linspace(-1, 1, segment.dimension, dtype=np.float32), 1)
        return segment
    before, segment = opened
    if before.dead != entry.dead:
        segment = segment.with_dead(store.verify(entry.dead) if entry.dead is not None else None)
    check_counts(segment, entry)
    return segment


def _best(found: list[tuple[str, float]], limit: int) -> list[Candidate]:
    """The best `limit` of documents and scores, ties by ascending id."""
    ordered = sorted([(-score, document_id) for document_id, score in found])
    return [Candidate(document_id, -score) for score, document_id in ordered[:limit]]
