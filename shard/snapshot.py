"""One open generation: both legs and the documents, swapped in and out as one object."""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import fsops
from core.analysis import query_terms
from core.bm25 import Statistics
from core.documents import Document
from core.errors import CorruptFile, InvalidInput, ModelMismatch
from core.index_store import ShardStore
from core.lexical import LexicalReader
from core.manifest import Manifest
from core.matching import Matcher
from core.searching import heaviest_documents, nearest_documents
from core.segment import Passage, Segment
from core.segment_tables import keys_of
from core.similarity import COSINE, DOT
from shard.opening import open_segments

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """A query of the learned-sparse leg: distinct int32 `ids`, float32 `weights` above 0."""

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]


class Candidate(NamedTuple):
    """A document in one leg, with the leg's own score and its place in the snapshot."""

    id: str
    score: float
    place: int


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
        self.segments = tuple(segments)
        self._lexical = lexical
        self._matcher = Matcher(segments, lexical)
        self._directory = directory
        # A place is a document's row, counted on through the segments.
        self._ids: list[str] = []
        self._starts: list[int] = []
        for segment in segments:
            self._starts.append(len(self._ids))
            self._ids += segment.ids

    @classmethod
    def open(
        cls, store: ShardStore, manifest: Manifest, directory: Path, previous: Snapshot | None
    ) -> Snapshot:
        """Verifies and opens a generation; segments that `previous` has open are shared with it.

        `directory` must not exist; Tantivy's view is put there and removed by `close`. Raises
        CorruptFile if anything is not what the manifest says.
        """
        opened = zip(previous.manifest.segments, previous.segments, strict=True) if previous else ()
        segments = open_segments(store, manifest.segments, opened)
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

    def count_terms(self, query: str) -> Statistics:
        """What BM25 needs to know of this shard for a query."""
        return self._matcher.count(query_terms(query))

    def search_lexical(
        self, query: str, limit: int, statistics: Statistics | None = None
    ) -> list[Candidate]:
        """The best `limit` documents by BM25, ties by ascending id.

        `statistics` are those of the whole collection, of this shard alone if None. Raises
        InvalidInput if they are not of this query's terms.
        """
        terms = query_terms(query)
        if statistics is None:
            statistics = self._matcher.count(terms)
        elif statistics.holding.keys() != terms.keys():
            raise InvalidInput("MALFORMED", "are of other terms", field="statistics")
        return self._best(*self._matcher.search(terms, limit, statistics), limit)

    def search_dense(self, vector: Vector, limit: int) -> list[Candidate]:
        """The best `limit` documents by their best passage, ties by ascending id."""
        return self._best(*nearest_documents(self.segments, vector, limit), limit)

    def search_sparse(self, terms: Terms, limit: int) -> list[Candidate]:
        """The best `limit` documents by weighted terms of their best passage, ties by id."""
        found = heaviest_documents(self.segments, terms.ids, terms.weights, limit)
        return self._best(*found, limit)

    def find(self, ids: Sequence[str]) -> list[int]:
        """The places of those ids that are here, in this order."""
        if not ids:
            return []
        keys = keys_of(ids)
        places = np.full(len(ids), -1)
        for segment, start in zip(self.segments, self._starts, strict=True):
            rows = segment.find_ids(ids, keys)
            places = np.where(rows >= 0, rows + start, places)
        found: list[int] = places[places >= 0].tolist()
        return found

    def read(
        self, places: Sequence[int], vector: Vector | None, terms: Terms | None = None
    ) -> list[Fetched]:
        """The documents at these places, in this order, each with its best passage."""
        rows = []
        for place in places:
            number = bisect_right(self._starts, place) - 1
            rows.append((self.segments[number], place - self._starts[number]))
        return with_passages(rows, vector, terms)

    def serialised(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Those documents of these ids that are here, as trireme.v1.Document."""
        return {found.id: found.serialised for found in self.fetch(ids, None)}

    def fetch(
        self, ids: Sequence[str], vector: Vector | None, terms: Terms | None = None
    ) -> list[Fetched]:
        """The documents of these ids that are here, in this order, as `read` gives them."""
        return self.read(self.find(ids), vector, terms)

    def _best(self, places: Sequence[int], scores: Sequence[float], limit: int) -> list[Candidate]:
        """The best `limit` of documents by their scores, ties by ascending id."""
        ids = self._ids
        ordered = sorted(
            [(-score, ids[place], place) for place, score in zip(places, scores, strict=True)]
        )
        return [Candidate(id, -score, place) for score, id, place in ordered[:limit]]

    def _check(self) -> None:
        """Raises CorruptFile unless both legs hold what the manifest says and can be searched."""
        live = sum(len(segment.live_rows) for segment in self.segments)
        if not live == self._lexical.document_count == self.manifest.documents:
            raise CorruptFile(
                f"generation {self.manifest.generation} should have {self.manifest.documents} "
                f"documents, its segments have {live}, its lexical index has "
                f"{self._lexical.document_count}"
            )
        for segment in self.segments:
            self._check_kind(segment)
        self.search_lexical("canary", 1)

    def _check_kind(self, segment: Segment) -> None:
        """Raises ModelMismatch unless a segment was made by the manifest's encoders."""
        encoder = self.manifest.encoder
        similarity = DOT if encoder.similarity == COSINE else encoder.similarity
        if segment.dimension != encoder.dimension:
            raise ModelMismatch(f"a segment's vectors do not have {encoder.dimension} components")
        if segment.similarity != similarity:
            raise ModelMismatch(f"a segment's vectors are not compared by {encoder.similarity}")
        if (segment.sparse is None) != (self.manifest.sparse_encoder is None):
            raise ModelMismatch("a segment and the manifest disagree about the sparse leg")

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"<Snapshot {manifest.collection} generation {manifest.generation}, "
            f"{manifest.documents} documents in {len(self.segments)} segments>"
        )
