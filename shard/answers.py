"""What a shard answers: from protobuf to the library's snapshots and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from core import tracing
from core.analysis import analyzer_of
from shard import wire
from shard.answer_wire import (
    tell_attribute,
    tell_document,
    tell_generation,
    tell_leg,
    tell_statistics,
)
from shard.fetched import Fetched, Vector
from shard.highlight import NO_MARKS, mark
from shard.library import Library
from shard.likely_head import likely_head
from shard.limits import NO_LIMITS, Limits, Plan
from shard.metrics import ShardMetrics
from shard.ranked import Ranked
from shard.recall_watch import RecallWatch
from shard.searcher import Searcher
from shard.shortfalls import shortfalls
from shard.snapshot import Snapshot
from trireme.shard.v1 import shard_pb2

P = ParamSpec("P")
T = TypeVar("T")

# Marking the words of one document costs about as much as searching so many.
_ROWS_PER_MARKED = 2_000


class Answers:
    """One method for everything that an Ask can be, by the name of its field; it fills the answer.

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
        self, request: shard_pb2.CountTermsRequest, answer: shard_pb2.CountTermsResponse
    ) -> None:
        snapshot = self._library.find(request.collection, request.generation)
        found, _ = await self._timed(
            "statistics",
            _lexical_rows(snapshot, request.query),
            snapshot.count_terms,
            request.query,
        )
        tell_statistics(answer.statistics, found)
        tell_generation(answer.generation, snapshot)

    async def search_lexical(
        self, request: shard_pb2.SearchLexicalRequest, answer: shard_pb2.SearchLexicalResponse
    ) -> None:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        given = request.HasField("statistics")
        statistics = wire.statistics_of(request.statistics) if given else None
        limits = wire.limits_of(request)

        def search() -> tuple[Ranked, Plan | None]:
            found = snapshot.search_lexical(request.query, limit, statistics, limits)
            return found, snapshot.plan_lexical(limit, limits)

        rows = _lexical_rows(snapshot, request.query) + _masked_rows(snapshot, limits)
        (found, plan), seconds = await self._timed("lexical", rows, search)
        tell_leg(answer, snapshot, found, plan, seconds=seconds)

    async def search_dense(
        self, request: shard_pb2.SearchDenseRequest, answer: shard_pb2.SearchDenseResponse
    ) -> None:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        vector, limits = wire.vector_of(request.vector, snapshot), wire.limits_of(request)
        wire.check_encoder(request.encoder_fingerprint, snapshot)
        wire.check_head(request.likely_head)

        def search() -> tuple[Ranked, Plan | None]:
            found = snapshot.search_dense(vector, limit, limits)
            return found, snapshot.plan_dense(limit, limits)

        rows = snapshot.manifest.passages + _masked_rows(snapshot, limits)
        (found, plan), seconds = await self._timed("dense", rows, search)
        self._watch.sample(snapshot, vector)
        tell_leg(answer, snapshot, found, plan, seconds=seconds)
        for each in await self._head(request.likely_head, found, snapshot, vector):
            tell_document(answer.head.add(), each, request.likely_head.with_tokens)

    async def search_sparse(
        self, request: shard_pb2.SearchSparseRequest, answer: shard_pb2.SearchSparseResponse
    ) -> None:
        limit = wire.limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        terms = wire.terms_of(request.terms, request.weights)
        wire.check_sparse_encoder(request.encoder_fingerprint, snapshot)
        limits = wire.limits_of(request)

        def search() -> tuple[Ranked, Plan | None]:
            found = snapshot.search_sparse(terms, limit, limits)
            return found, snapshot.plan_sparse(limits)

        # Each term of a query is in a part of the passages.
        rows = snapshot.manifest.passages // 4 + _masked_rows(snapshot, limits)
        (found, plan), seconds = await self._timed("sparse", rows, search)
        tell_leg(answer, snapshot, found, plan, seconds=seconds)

    async def read_attribute(
        self, request: shard_pb2.ReadAttributeRequest, answer: shard_pb2.ReadAttributeResponse
    ) -> None:
        snapshot = self._library.find(request.collection, request.generation)
        found, _ = await self._timed(
            "attribute", len(request.ids), snapshot.serialised, request.ids
        )
        for id in request.ids:
            tell_attribute(answer.values.add(), found.get(id, b""), request.attribute)
        tell_generation(answer.generation, snapshot)

    async def fetch(self, request: shard_pb2.FetchRequest, answer: shard_pb2.FetchResponse) -> None:
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
        for item, marked, lacking in zip(fetched, marks, unmet, strict=True):
            tell_document(answer.documents.add(), item, item.id in wanted, marked, *lacking)
        tell_generation(answer.generation, snapshot)

    async def _head(
        self, wanted: shard_pb2.LikelyHead, found: Ranked, snapshot: Snapshot, vector: Vector
    ) -> list[Fetched]:
        """The documents that the caller will most likely want in full."""
        if wanted.limit <= 0:
            return []
        others = dict(zip(wanted.ids, wanted.scores, strict=True))
        ids = likely_head(found.ids, others, wanted.limit, weight=wanted.weight, k=wanted.k)
        known = dict(zip(found.ids, found.places, strict=True))
        places = [known[id] for id in ids if id in known]
        places += snapshot.find([id for id in ids if id not in known])
        fetched, _ = await self._timed("fetch", len(places), snapshot.read, places, vector)
        return fetched

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
