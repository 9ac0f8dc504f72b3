"""What a shard answers: from protobuf to the library's snapshots and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from core import tracing
from core.analysis import analyzer_of
from shard import wire
from shard.fetched import Vector
from shard.highlight import NO_MARKS, mark
from shard.library import Library
from shard.likely_head import likely_head
from shard.limits import NO_LIMITS, Limits, Plan
from shard.metrics import ShardMetrics
from shard.recall_watch import RecallWatch
from shard.searcher import Searcher
from shard.shortfalls import shortfalls
from shard.snapshot import Candidate, Snapshot
from trireme.shard.v1 import shard_pb2

P = ParamSpec("P")
T = TypeVar("T")

# Marking the words of one document costs about as much as searching so many.
_ROWS_PER_MARKED = 2_000


class Answers:
    """One method for everything that an Ask can be, by the name of its field.

    Each raises TriremeError.
    """

    def __init__(
        self, library: Library, searcher: Searcher, metrics: ShardMetrics, watch: RecallWatch
    ) -> None:
        self._library = library
        self._searcher = searcher
        self._watch = watch
        self._seconds = metrics.search_seconds

    async def count_terms(
        self, request: shard_pb2.CountTermsRequest
    ) -> shard_pb2.CountTermsResponse:
        snapshot = self._library.find(request.collection, request.generation)
        found, _ = await self._timed(
            "statistics",
            _lexical_rows(snapshot, request.query),
            snapshot.count_terms,
            request.query,
        )
        return shard_pb2.CountTermsResponse(
            statistics=wire.statistics(found), generation=wire.generation(snapshot)
        )

    async def search_lexical(
        self, request: shard_pb2.SearchLexicalRequest
    ) -> shard_pb2.SearchLexicalResponse:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        given = request.HasField("statistics")
        statistics = wire.statistics_of(request.statistics) if given else None
        limits = wire.limits_of(request)

        def search() -> tuple[list[Candidate], Plan | None]:
            found = snapshot.search_lexical(request.query, limit, statistics, limits)
            return found, snapshot.plan_lexical(limit, limits)

        rows = _lexical_rows(snapshot, request.query) + _masked_rows(snapshot, limits)
        (candidates, plan), seconds = await self._timed("lexical", rows, search)
        return shard_pb2.SearchLexicalResponse(
            ranking=wire.ranking(candidates),
            generation=wire.generation(snapshot),
            search_microseconds=round(seconds * 1e6),
            plan=wire.plan(plan),
        )

    async def search_dense(
        self, request: shard_pb2.SearchDenseRequest
    ) -> shard_pb2.SearchDenseResponse:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        vector, limits = wire.vector_of(request.vector, snapshot), wire.limits_of(request)
        wire.check_encoder(request.encoder_fingerprint, snapshot)
        wire.check_head(request.likely_head)

        def search() -> tuple[list[Candidate], Plan | None]:
            found = snapshot.search_dense(vector, limit, limits)
            return found, snapshot.plan_dense(limit, limits)

        rows = snapshot.manifest.passages + _masked_rows(snapshot, limits)
        (candidates, plan), seconds = await self._timed("dense", rows, search)
        self._watch.sample(snapshot, vector)
        return shard_pb2.SearchDenseResponse(
            ranking=wire.ranking(candidates),
            generation=wire.generation(snapshot),
            search_microseconds=round(seconds * 1e6),
            plan=wire.plan(plan),
            head=await self._head(request.likely_head, candidates, snapshot, vector),
        )

    async def search_sparse(
        self, request: shard_pb2.SearchSparseRequest
    ) -> shard_pb2.SearchSparseResponse:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        terms = wire.terms_of(request.terms, request.weights)
        wire.check_sparse_encoder(request.encoder_fingerprint, snapshot)
        limits = wire.limits_of(request)

        def search() -> tuple[list[Candidate], Plan | None]:
            found = snapshot.search_sparse(terms, limit, limits)
            return found, snapshot.plan_sparse(limits)

        # Each term of a query is in a part of the passages.
        rows = snapshot.manifest.passages // 4 + _masked_rows(snapshot, limits)
        (candidates, plan), seconds = await self._timed("sparse", rows, search)
        return shard_pb2.SearchSparseResponse(
            ranking=wire.ranking(candidates),
            generation=wire.generation(snapshot),
            search_microseconds=round(seconds * 1e6),
            plan=wire.plan(plan),
        )

    async def read_attribute(
        self, request: shard_pb2.ReadAttributeRequest
    ) -> shard_pb2.ReadAttributeResponse:
        snapshot = self._library.find(request.collection, request.generation)
        found, _ = await self._timed(
            "attribute", len(request.ids), snapshot.serialised, request.ids
        )
        return shard_pb2.ReadAttributeResponse(
            values=[wire.attribute(found.get(id, b""), request.attribute) for id in request.ids],
            generation=wire.generation(snapshot),
        )

    async def fetch(self, request: shard_pb2.FetchRequest) -> shard_pb2.FetchResponse:
        snapshot = self._library.find_documents(
            request.collection, request.generation, pinned=request.pinned
        )
        vector = wire.vector_of(request.vector, snapshot) if request.vector else None
        terms = wire.terms_of(request.terms, request.weights) if request.terms else None
        fetched, _ = await self._timed(
            "fetch", len(request.ids), snapshot.fetch, request.ids, vector, terms
        )
        analyzer = analyzer_of(snapshot.manifest.lexical_settings)
        marks = [NO_MARKS] * len(fetched)
        if request.highlight:
            rows = len(fetched) * _ROWS_PER_MARKED
            marks = await self._searcher.run(rows, mark, fetched, request.highlight, analyzer)
        rows = snapshot.manifest.documents if request.filter else 0
        limits = wire.limits_of(request)
        unmet = await self._searcher.run(rows, shortfalls, fetched, limits, analyzer)
        wanted = set(request.ids[: request.tokens_for])
        return shard_pb2.FetchResponse(
            documents=[
                wire.document(item, item.id in wanted, marked, *lacking)
                for item, marked, lacking in zip(fetched, marks, unmet, strict=True)
            ],
            generation=wire.generation(snapshot),
        )

    async def _head(
        self,
        wanted: shard_pb2.LikelyHead,
        found: Sequence[Candidate],
        snapshot: Snapshot,
        vector: Vector,
    ) -> list[shard_pb2.FetchedDocument]:
        """The documents that the caller will most likely want in full."""
        if wanted.limit <= 0:
            return []
        others = dict(zip(wanted.ids, wanted.scores, strict=True))
        dense = {candidate.id: candidate.place for candidate in found}
        ids = likely_head(list(dense), others, wanted.limit, weight=wanted.weight, k=wanted.k)
        places = [dense[id] for id in ids if id in dense]
        places += snapshot.find([id for id in ids if id not in dense])
        fetched, _ = await self._timed("fetch", len(places), snapshot.read, places, vector)
        return [wire.document(item, wanted.with_tokens) for item in fetched]

    async def _timed(
        self, leg: str, rows: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, float]:
        """Runs a search and returns its result and its own time in seconds, without waiting."""

        def search() -> tuple[T, float]:
            started = time.perf_counter()
            result = call(*args, **kwargs)
            return result, time.perf_counter() - started

        with tracing.span(leg, rows=rows):
            result, seconds = await self._searcher.run(rows, search)
        self._seconds(leg).observe(seconds, tracing.exemplar())
        return result, seconds


def _masked_rows(snapshot: Snapshot, limits: Limits) -> int:
    """Documents that are looked at to know which are within limits."""
    return snapshot.manifest.documents if limits != NO_LIMITS else 0


def _lexical_rows(snapshot: Snapshot, query: str) -> int:
    """About how many documents are read for a query: each of its terms is in a part of them."""
    return snapshot.manifest.documents // 16 * (1 + len(query) // 64)
