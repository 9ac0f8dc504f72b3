"""One open generation: both legs and the documents, swapped in and out as one object."""

from __future__ import annotations

import itertools
import shutil
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from core import fsops
from core.analysis import Analyzer, analyzer_of
from core.bm25 import Statistics
from core.columns import Strings
from core.errors import CorruptFile, InvalidInput, ModelMismatch
from core.index_store import ShardStore
from core.lexical import LexicalReader
from core.manifest import Manifest
from core.masks import EXACT, Mask
from core.matching import Matcher
from core.searching import heaviest_documents, nearest_documents
from core.segment import Segment
from core.similarity import COSINE, DOT
from shard.fetched import Fetched, Terms, Vector, with_passages
from shard.limits import NO_LIMITS, Limits, Masks, Plan, plan_of
from shard.opening import Place, on_cpu, open_segments
from shard.ranked import Ranked

# Reading an id costs ten times as much as remembering it: small shards remember all of theirs.
_KEPT_IDS = 8192


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
        self._masks = Masks(segments, self._matcher)
        # A place is a document's row, counted on through the segments.
        ids = [segment.ids for segment in segments]
        self._starts = [0, *itertools.accumulate(map(len, ids))][: len(ids)]
        self._id = lru_cache(_KEPT_IDS)(partial(_id_at, self._starts, ids))

    @classmethod
    def open(
        cls,
        store: ShardStore,
        manifest: Manifest,
        directory: Path,
        previous: Snapshot | None,
        place: Place = on_cpu,
    ) -> Snapshot:
        """Verifies and opens a generation; segments that `previous` has open are shared with it.

        `directory` must not exist; Tantivy's view is put there and removed by `close`. Raises
        CorruptFile if anything is not what the manifest says.
        """
        opened = zip(previous.manifest.segments, previous.segments, strict=True) if previous else ()
        segments = open_segments(store, manifest.segments, opened, place)
        with fsops.storage_errors(directory):
            directory.mkdir(parents=True)
        try:
            store.materialise(manifest.lexical, directory)
            analyzer = analyzer_of(manifest.lexical_settings)
            lexical = LexicalReader.open(directory, analyzer)
            snapshot = cls(manifest, segments, lexical, directory)
            snapshot._check()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return snapshot

    def close(self) -> None:
        """Removes Tantivy's view. Searches that still run are not disturbed: files stay mapped."""
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def analyzer(self) -> Analyzer:
        """How texts and queries become the terms of the lexical leg."""
        return self._lexical.analyzer

    def count_terms(self, query: str) -> Statistics:
        """What BM25 needs to know of this shard for a query."""
        return self._matcher.count(self.analyzer.query_terms(query))

    def mask(self, limits: Limits) -> Mask | None:
        """The living documents within these limits; None if there are no limits."""
        return self._masks.of(limits)

    def search_lexical(
        self,
        query: str,
        limit: int,
        statistics: Statistics | None = None,
        limits: Limits = NO_LIMITS,
    ) -> Ranked:
        """The best `limit` documents by BM25, ties by ascending id.

        `statistics` are those of the whole collection, of this shard alone if None. Raises
        InvalidInput if they are not of this query's terms.
        """
        terms = self.analyzer.query_terms(query)
        if statistics is None:
            statistics = self._matcher.count(terms)
        elif statistics.holding.keys() != terms.keys():
            raise InvalidInput("MALFORMED", "are of other terms", field="statistics")
        found = self._matcher.search(terms, limit, statistics, self.mask(limits))
        return self._best(*found, limit)

    def search_dense(self, vector: Vector, limit: int, limits: Limits = NO_LIMITS) -> Ranked:
        """The best `limit` documents by their best passage, ties by ascending id."""
        found = nearest_documents(self.segments, vector, limit, self.mask(limits))
        return self._best(*found, limit)

    def search_sparse(self, terms: Terms, limit: int, limits: Limits = NO_LIMITS) -> Ranked:
        """The best `limit` documents by weighted terms of their best passage, ties by id."""
        mask = self.mask(limits)
        found = heaviest_documents(self.segments, terms.ids, terms.weights, limit, mask)
        return self._best(*found, limit)

    def plan_lexical(self, limit: int, limits: Limits) -> Plan | None:
        """How `search_lexical` keeps to these limits; None if there are none."""
        if (mask := self.mask(limits)) is None:
            return None
        return plan_of(mask, self.manifest.documents, {self._matcher.strategy(limit, mask)})

    def plan_dense(self, limit: int, limits: Limits) -> Plan | None:
        """How `search_dense` does."""
        if (mask := self.mask(limits)) is None:
            return None
        parts = zip(self.segments, mask.parts, mask.counts, strict=True)
        used = {each.dense_strategy(limit, part) for each, part, count in parts if count}
        return plan_of(mask, self.manifest.documents, used)

    def plan_sparse(self, limits: Limits) -> Plan | None:
        """How `search_sparse` does: it scores every document with a term of the query."""
        mask = self.mask(limits)
        return None if mask is None else plan_of(mask, self.manifest.documents, {EXACT})

    def measure_recall(self, vector: Vector) -> tuple[int, int]:
        """How many of the nearest passages of sealed segments searches find, and how many are."""
        measured = [segment.measure_recall(vector) for segment in self.segments]
        return sum(found for found, _ in measured), sum(wanted for _, wanted in measured)

    def find(self, ids: Sequence[str]) -> list[int]:
        """The places of those ids that are here, in this order."""
        return [place for id in ids if (place := self._place_of(id)) is not None]

    def _place_of(self, document_id: str) -> int | None:
        for segment, start in zip(self.segments, self._starts, strict=True):
            row = segment.find(document_id)
            if row is not None:
                return start + row
        return None

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

    def _best(self, places: Sequence[int], scores: Sequence[float], limit: int) -> Ranked:
        """The best `limit` of documents that are given best first, ties by ascending id."""
        ids = list(map(self._id, places))
        if len(set(scores)) < len(scores):
            order = sorted(range(len(ids)), key=lambda each: (-scores[each], ids[each]))
            ids = [ids[each] for each in order]
            scores = [scores[each] for each in order]
            places = [places[each] for each in order]
        return Ranked(ids[:limit], scores[:limit], places[:limit])

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


def _id_at(starts: Sequence[int], ids: Sequence[Strings], place: int) -> str:
    """The id of the document at a place."""
    number = bisect_right(starts, place) - 1
    return ids[number][place - starts[number]]
