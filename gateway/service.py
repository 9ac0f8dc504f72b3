"""SearchService: protobuf to a validated query, and the answer back."""

from __future__ import annotations

import math
from typing import Any

import grpc

from core.deadline import Deadline
from core.documents import check_text
from core.errors import InvalidInput, Unsupported
from core.rpc import deadline_of
from core.wire import position_from_proto
from gateway.admission import Admission
from gateway.config import GatewayConfig
from gateway.fusion import FusionSettings, Place
from gateway.metrics import GatewayMetrics
from gateway.query import (
    DENSE,
    LEXICAL,
    SPARSE,
    Answer,
    Degradation,
    Hit,
    ModelUsed,
    Query,
    RerankSettings,
)
from gateway.search import Search
from trireme.v1 import collection_pb2, error_reason_pb2, search_pb2, search_pb2_grpc

MAX_QUERY_BYTES = 4096
MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 10
DEFAULT_WINDOW = 100
MAX_RERANK_DEPTH = 200

_LEGS = {
    # Empty: all that the collection has.
    search_pb2.SEARCH_MODE_UNSPECIFIED: frozenset[str](),
    search_pb2.SEARCH_MODE_HYBRID: frozenset[str](),
    search_pb2.SEARCH_MODE_DENSE: frozenset({DENSE}),
    search_pb2.SEARCH_MODE_LEXICAL: frozenset({LEXICAL}),
    search_pb2.SEARCH_MODE_SPARSE: frozenset({SPARSE}),
}
_LEG = {
    search_pb2.SEARCH_LEG_DENSE: DENSE,
    search_pb2.SEARCH_LEG_LEXICAL: LEXICAL,
    search_pb2.SEARCH_LEG_SPARSE: SPARSE,
}
_RRF = (search_pb2.FUSION_METHOD_UNSPECIFIED, search_pb2.FUSION_METHOD_RRF)


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Takes a permit, translates, hands over to the narrator, translates back."""

    def __init__(
        self, search: Search, admission: Admission, metrics: GatewayMetrics, config: GatewayConfig
    ) -> None:
        self._search = search
        self._admission = admission
        self._metrics = metrics
        self._config = config

    async def Search(  # noqa: N802
        self,
        request: search_pb2.SearchRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> search_pb2.SearchResponse:
        with self._admission.permit():
            deadline = call_deadline(context, self._config)
            answer = await self._search.search(query_from_proto(request, self._config), deadline)
            self._metrics.observe(answer)
            return answer_to_proto(answer)


def call_deadline(context: grpc.aio.ServicerContext[Any, Any], config: GatewayConfig) -> Deadline:
    """The caller's deadline within the gateway's limits."""
    return deadline_of(
        context,
        default_seconds=config.default_deadline_seconds,
        longest_seconds=config.longest_deadline_seconds,
    )


def query_from_proto(request: search_pb2.SearchRequest, config: GatewayConfig) -> Query:
    """The validated query; raises InvalidInput or Unsupported naming the field."""
    if not request.collection:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field="collection", remedy="name one")
    check_text(request.query, MAX_QUERY_BYTES, "query")
    if not request.query.strip():
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="query", remedy="say what is looked for"
        )
    if request.filter:
        raise Unsupported("filters are not offered yet", field="filter", remedy="leave it empty")
    page_size = _count(request.page_size, DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE, "page_size")
    window = max(DEFAULT_WINDOW, page_size)
    return Query(
        collection=request.collection,
        text=request.query,
        page_size=page_size,
        window=_count(request.window, window, page_size, MAX_PAGE_SIZE, "window"),
        legs=_legs(request),
        fusion=_fusion(request.fusion),
        rerank=_rerank(request.rerank, config),
        min_position=position_from_proto(request.min_position, "min_position"),
    )


def answer_to_proto(answer: Answer) -> search_pb2.SearchResponse:
    """The answer as callers see it."""
    return search_pb2.SearchResponse(
        hits=[_hit(hit, answer) for hit in answer.hits],
        degraded=[_degradation(shortfall) for shortfall in answer.degraded],
        fusion=search_pb2.Fusion(
            method=search_pb2.FUSION_METHOD_RRF,
            k=answer.fusion.k,
            dense_weight=answer.fusion.dense_weight,
            lexical_weight=answer.fusion.lexical_weight,
            sparse_weight=answer.fusion.sparse_weight,
        ),
        rerank=search_pb2.Rerank(
            enabled=answer.rerank.enabled, depth=answer.reranked, weight=answer.rerank.weight
        ),
        timings=[
            search_pb2.StageTiming(
                stage=_stage(timing.stage),
                start_microseconds=timing.start_microseconds,
                microseconds=timing.microseconds,
                inner_microseconds=timing.inner_microseconds,
            )
            for timing in answer.timings
        ],
        total_microseconds=answer.total_microseconds,
        shards=[
            search_pb2.ShardAnswer(
                shard=shard.shard,
                complete=shard.complete,
                epoch=shard.epoch,
                generation=shard.generation,
                sequence=shard.sequence,
            )
            for shard in answer.shards
        ],
        encoder=model_to_proto(answer.encoder),
        sparse_encoder=model_to_proto(answer.sparse_encoder),
        reranker=model_to_proto(answer.reranker),
    )


def model_to_proto(model: ModelUsed | None) -> collection_pb2.ModelVersion | None:
    """A model version as callers see it."""
    if model is None:
        return None
    return collection_pb2.ModelVersion(
        model=model.model, version=model.version, fingerprint=model.fingerprint
    )


def _count(value: int, default: int, low: int, high: int, path: str) -> int:
    if value == 0:
        return default
    if not low <= value <= high:
        raise InvalidInput(
            "OUT_OF_RANGE", f"is {value}", field=path, remedy=f"give {low} to {high}"
        )
    return value


def _number(value: float, low: float, high: float, path: str) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidInput(
            "OUT_OF_RANGE", f"is {value:g}", field=path, remedy=f"give {low:g} to {high:g}"
        )
    return value


def _legs(request: search_pb2.SearchRequest) -> frozenset[str]:
    if request.mode not in _LEGS:
        raise InvalidInput("OUT_OF_RANGE", f"{request.mode} is not a SearchMode", field="mode")
    if not request.legs:
        return _LEGS[request.mode]
    if request.mode != search_pb2.SEARCH_MODE_UNSPECIFIED:
        raise InvalidInput(
            "MALFORMED", "is given beside legs", field="mode", remedy="give one of both"
        )
    if unknown := [leg for leg in request.legs if leg not in _LEG]:
        raise InvalidInput("OUT_OF_RANGE", f"{unknown[0]} is not a SearchLeg", field="legs")
    if len(set(request.legs)) < len(request.legs):
        raise InvalidInput(
            "MALFORMED", "names a leg twice", field="legs", remedy="name each leg once"
        )
    return frozenset(_LEG[leg] for leg in request.legs)


def _fusion(message: search_pb2.Fusion) -> FusionSettings:
    if message.method not in _RRF:
        raise InvalidInput(
            "UNKNOWN_FUSION",
            f"{message.method} is not a FusionMethod",
            field="fusion.method",
            remedy="use FUSION_METHOD_RRF",
        )
    default = FusionSettings()

    def setting(name: str, low: float, high: float) -> float:
        if not message.HasField(name):  # type: ignore[arg-type]
            return float(getattr(default, name))
        return _number(getattr(message, name), low, high, f"fusion.{name}")

    return FusionSettings(
        k=setting("k", 1, 10_000),
        dense_weight=setting("dense_weight", 0, 100),
        lexical_weight=setting("lexical_weight", 0, 100),
        sparse_weight=setting("sparse_weight", 0, 100),
    )


def _rerank(message: search_pb2.Rerank, config: GatewayConfig) -> RerankSettings:
    weight = message.weight if message.HasField("weight") else config.rerank_weight
    return RerankSettings(
        enabled=message.enabled if message.HasField("enabled") else True,
        depth=_count(message.depth, config.rerank_depth, 1, MAX_RERANK_DEPTH, "rerank.depth"),
        weight=_number(weight, 0, 1, "rerank.weight"),
    )


def _hit(hit: Hit, answer: Answer) -> search_pb2.Hit:
    fused = hit.ranked.fused
    generations = {shard.shard: shard.generation for shard in answer.shards}
    message = search_pb2.Hit(
        score=hit.ranked.score,
        passage=search_pb2.PassageSpan(
            start_byte=hit.fetched.start_byte, end_byte=hit.fetched.end_byte
        ),
        provenance=search_pb2.Provenance(
            dense=_place(fused.places.get(DENSE)),
            lexical=_place(fused.places.get(LEXICAL)),
            sparse=_place(fused.places.get(SPARSE)),
            fused_score=fused.score,
            fused_rank=fused.rank,
            rerank_logit=hit.ranked.logit,
            shard=fused.shard,
            generation=generations[fused.shard],
        ),
    )
    message.document.ParseFromString(hit.fetched.document)
    return message


def _place(place: Place | None) -> search_pb2.LegRank | None:
    if place is None:
        return None
    return search_pb2.LegRank(rank=place.rank, score=place.score, contribution=place.contribution)


def _degradation(shortfall: Degradation) -> search_pb2.Degradation:
    return search_pb2.Degradation(
        stage=_stage(shortfall.stage),
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{shortfall.reason}"),
        message=shortfall.message,
        shards=shortfall.shards,
    )


def _stage(name: str) -> search_pb2.Stage.ValueType:
    return search_pb2.Stage.Value(f"STAGE_{name.upper()}")
