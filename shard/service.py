"""ShardService: from protobuf to the library's snapshots and back."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import grpc
import numpy as np

from core.errors import InvalidInput, ModelMismatch
from core.manifest import Manifest
from core.wire import document_to_proto
from shard.library import Library
from shard.metrics import ShardMetrics
from shard.searcher import Searcher
from shard.snapshot import Fetched, Snapshot, Vector
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

MAX_LIMIT = 10_000

P = ParamSpec("P")
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


class ShardServicer(shard_pb2_grpc.ShardServiceServicer):
    """Answers gateways from one library."""

    def __init__(self, library: Library, searcher: Searcher, metrics: ShardMetrics) -> None:
        self._library = library
        self._searcher = searcher
        self._seconds = metrics.search_seconds

    async def Watch(  # noqa: N802
        self, request: shard_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[shard_pb2.WatchResponse]:
        sent: Mapping[str, Manifest] | None = None
        while not self._library.is_ending:
            # Taken first: what changes while a message is on its way is not missed.
            change = self._library.next_change()
            serving = self._library.serving()
            if serving != sent:
                yield _news(sent, serving)
                sent = serving
            await change.wait()

    async def SearchLexical(  # noqa: N802
        self, request: shard_pb2.SearchLexicalRequest, context: Context
    ) -> shard_pb2.SearchLexicalResponse:
        limit = _limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        # Term by term, BM25 skips most documents.
        rows = snapshot.manifest.documents // 16 * (1 + len(request.query) // 64)
        candidates, seconds = await self._timed(
            "lexical", rows, snapshot.search_lexical, request.query, limit
        )
        response = shard_pb2.SearchLexicalResponse(
            generation=_generation(snapshot), search_microseconds=round(seconds * 1e6)
        )
        for found in candidates:
            response.candidates.add(id=found.id, score=found.score)
        return response

    async def SearchDense(  # noqa: N802
        self, request: shard_pb2.SearchDenseRequest, context: Context
    ) -> shard_pb2.SearchDenseResponse:
        limit = _limit_of(request.limit)
        snapshot = self._library.find(request.collection, request.generation)
        vector = _vector_of(request.vector, snapshot)
        _check_encoder(request.encoder_fingerprint, snapshot)
        candidates, seconds = await self._timed(
            "dense", snapshot.manifest.passages, snapshot.search_dense, vector, limit
        )
        response = shard_pb2.SearchDenseResponse(
            generation=_generation(snapshot), search_microseconds=round(seconds * 1e6)
        )
        for found in candidates:
            response.candidates.add(id=found.id, score=found.score)
        return response

    async def Fetch(  # noqa: N802
        self, request: shard_pb2.FetchRequest, context: Context
    ) -> shard_pb2.FetchResponse:
        snapshot = self._library.find(request.collection, request.generation)
        vector = _vector_of(request.vector, snapshot) if request.vector else None
        fetched, _ = await self._timed(
            "fetch", len(request.ids), snapshot.fetch, request.ids, vector
        )
        wanted = set(request.ids[: request.tokens_for])
        return shard_pb2.FetchResponse(
            documents=[_fetched(item, item.document.id in wanted) for item in fetched],
            generation=_generation(snapshot),
        )

    async def _timed(
        self, leg: str, rows: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, float]:
        """Runs a search and returns its result and its own time in seconds, without waiting."""

        def search() -> tuple[T, float]:
            started = time.perf_counter()
            result = call(*args, **kwargs)
            return result, time.perf_counter() - started

        result, seconds = await self._searcher.run(rows, search)
        self._seconds.labels(leg).observe(seconds)
        return result, seconds


def _news(
    sent: Mapping[str, Manifest] | None, serving: Mapping[str, Manifest]
) -> shard_pb2.WatchResponse:
    before = sent or {}
    return shard_pb2.WatchResponse(
        collections=[
            _state(name, manifest)
            for name, manifest in sorted(serving.items())
            if before.get(name) is not manifest
        ],
        removed=sorted(before.keys() - serving.keys()),
        full=sent is None,
    )


def _state(name: str, manifest: Manifest) -> shard_pb2.CollectionState:
    return shard_pb2.CollectionState(
        collection=name,
        uid=manifest.uid,
        shard=manifest.shard,
        shard_count=manifest.shard_count,
        epoch=manifest.epoch,
        generation=manifest.generation,
        sequence=manifest.sequence,
        encoder_model=manifest.encoder.model,
        encoder_version=manifest.encoder.version,
        encoder_fingerprint=manifest.encoder.fingerprint,
        document_count=manifest.documents,
        passage_count=manifest.passages,
    )


def _limit_of(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput("OUT_OF_RANGE", f"{limit} is not 1 to {MAX_LIMIT:,}", field="limit")
    return limit


def _vector_of(data: bytes, snapshot: Snapshot) -> Vector:
    dimension = snapshot.manifest.encoder.dimension
    if len(data) != 4 * dimension:
        raise InvalidInput(
            "MALFORMED", f"{len(data)} bytes are not {dimension} float32 numbers", field="vector"
        )
    vector = np.frombuffer(data, "<f4")
    if not math.isfinite(float(vector.sum())):
        raise InvalidInput("MALFORMED", "holds numbers that are not finite", field="vector")
    return vector


def _check_encoder(fingerprint: str, snapshot: Snapshot) -> None:
    encoder = snapshot.manifest.encoder
    if fingerprint != encoder.fingerprint:
        raise ModelMismatch(
            f"generation {snapshot.manifest.generation} was built with {encoder.model} version "
            f"{encoder.version}, fingerprint {encoder.fingerprint}, not {fingerprint}",
            field="encoder_fingerprint",
            remedy="embed the query with that version",
        )


def _generation(snapshot: Snapshot) -> shard_pb2.GenerationUsed:
    manifest = snapshot.manifest
    return shard_pb2.GenerationUsed(
        epoch=manifest.epoch, generation=manifest.generation, sequence=manifest.sequence
    )


def _fetched(fetched: Fetched, with_tokens: bool) -> shard_pb2.FetchedDocument:
    message = shard_pb2.FetchedDocument(
        id=fetched.document.id, document=document_to_proto(fetched.document).SerializeToString()
    )
    if fetched.passage is not None:
        message.start_byte = fetched.passage.start_byte
        message.end_byte = fetched.passage.end_byte
        if with_tokens:
            message.token_ids.extend(fetched.passage.token_ids.tolist())
    return message
