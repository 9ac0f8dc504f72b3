"""An answer to SearchResponse.

Hits are filled where they stand: a message that is put into another one is copied, part by part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.query_syntax import Constraint, Understood
from core.ranking_wire import METHOD_TO_PROTO
from core.wire import timestamp, value_to_proto
from gateway.fusion import FusionSettings
from gateway.query import (
    DENSE,
    LEXICAL,
    SPARSE,
    Answer,
    Degradation,
    FilterPlan,
    Hit,
    HitGroup,
    LegPlan,
    ModelUsed,
    ShardAnswer,
    Timing,
)
from trireme.v1 import (
    collection_pb2,
    error_reason_pb2,
    filter_pb2,
    lexical_pb2,
    ranking_pb2,
    search_pb2,
)


def answer_to_proto(answer: Answer) -> search_pb2.SearchResponse:
    """The answer as callers see it."""
    generations = {shard.shard: shard.generation for shard in answer.shards}
    response = search_pb2.SearchResponse(
        degraded=map(degradation_to_proto, answer.degraded),
        fusion=fusion_to_proto(answer.fusion),
        rerank=ranking_pb2.Rerank(
            enabled=answer.rerank.enabled, depth=answer.reranked, weight=answer.rerank.weight
        ),
        timings=map(_timing, answer.timings),
        total_microseconds=answer.total_microseconds,
        shards=map(shard_to_proto, answer.shards),
        encoder=model_to_proto(answer.encoder),
        sparse_encoder=model_to_proto(answer.sparse_encoder),
        reranker=model_to_proto(answer.reranker),
        next_page_token=answer.next_page_token,
        page_expire_time=timestamp(answer.expires) if answer.expires is not None else None,
        coverage=answer.coverage,
        window=answer.window,
        candidate_count=answer.candidate_count,
        filter_plan=_filter_plan(answer.filter_plan),
        understood=_understood(answer.understood),
    )
    for hit in answer.hits:
        _tell_hit(response.hits.add(), hit, generations)
    for group in answer.groups:
        _tell_group(response.groups.add(), group, generations)
    return response


def _understood(understood: Understood | None) -> lexical_pb2.UnderstoodQuery | None:
    if understood is None:
        return None
    constraint = understood.constraint or Constraint()
    return lexical_pb2.UnderstoodQuery(
        text=understood.text, required=constraint.required, excluded=constraint.excluded
    )


def fusion_to_proto(fusion: FusionSettings) -> ranking_pb2.Fusion:
    """Fusion settings as callers see them."""
    return ranking_pb2.Fusion(
        method=METHOD_TO_PROTO[fusion.method],
        k=fusion.k,
        dense_weight=fusion.dense_weight,
        lexical_weight=fusion.lexical_weight,
        sparse_weight=fusion.sparse_weight,
    )


def model_to_proto(model: ModelUsed | None) -> collection_pb2.ModelVersion | None:
    """A model version as callers see it."""
    if model is None:
        return None
    return collection_pb2.ModelVersion(
        model=model.model, version=model.version, fingerprint=model.fingerprint
    )


def shard_to_proto(shard: ShardAnswer) -> search_pb2.ShardAnswer:
    """What a shard contributed from, as callers see it."""
    return search_pb2.ShardAnswer(
        shard=shard.shard,
        complete=shard.complete,
        epoch=shard.epoch,
        generation=shard.generation,
        sequence=shard.sequence,
    )


def degradation_to_proto(shortfall: Degradation) -> search_pb2.Degradation:
    """A shortfall as callers see it."""
    return search_pb2.Degradation(
        stage=_stage(shortfall.stage),
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{shortfall.reason}"),
        message=shortfall.message,
        shards=shortfall.shards,
    )


def _filter_plan(plan: FilterPlan | None) -> filter_pb2.FilterPlan | None:
    if plan is None:
        return None
    legs = {name: _leg_plan(leg) for name, leg in plan.legs.items()}
    return filter_pb2.FilterPlan(
        expression=plan.expression,
        dense=legs.get(DENSE),
        lexical=legs.get(LEXICAL),
        sparse=legs.get(SPARSE),
    )


def _leg_plan(plan: LegPlan) -> filter_pb2.LegPlan:
    return filter_pb2.LegPlan(
        strategies=sorted(
            filter_pb2.FilterStrategy.Value(f"FILTER_STRATEGY_{each}") for each in plan.strategies
        ),
        matching_count=plan.matching,
        document_count=plan.documents,
        shortfall=plan.shortfall,
    )


def _tell_group(
    message: search_pb2.HitGroup, group: HitGroup, generations: Mapping[int, int]
) -> None:
    if group.value is not None:
        message.value.CopyFrom(value_to_proto(group.value))
    for hit in group.hits:
        _tell_hit(message.hits.add(), hit, generations)
    message.size = group.size


def _tell_hit(message: search_pb2.Hit, hit: Hit, generations: Mapping[int, int]) -> None:
    fused, fetched, ranked = hit.ranked.fused, hit.fetched, hit.ranked
    message.score = ranked.score
    message.document.ParseFromString(fetched.document)
    message.passage.start_byte = fetched.start_byte
    message.passage.end_byte = fetched.end_byte
    provenance = message.provenance
    for leg, place in fused.places.items():
        rank: search_pb2.LegRank = getattr(provenance, leg)
        rank.rank = place.rank
        rank.score = place.score
        rank.contribution = place.contribution
    provenance.fused_score = fused.score
    provenance.fused_rank = fused.rank
    if ranked.logit is not None:
        provenance.rerank_logit = ranked.logit
    provenance.shard = fused.shard
    provenance.generation = generations[fused.shard]
    provenance.fused_part = ranked.fused_part
    provenance.rerank_part = ranked.rerank_part
    if fetched.highlights:
        _tell_spans(message.highlights, fetched.highlights)
    if fetched.title_highlights:
        _tell_spans(message.title_highlights, fetched.title_highlights)


def _tell_spans(spans: Any, bounds: Sequence[int]) -> None:
    for start, end in zip(bounds[::2], bounds[1::2], strict=True):
        spans.add(start_byte=start, end_byte=end)


def _timing(timing: Timing) -> search_pb2.StageTiming:
    return search_pb2.StageTiming(
        stage=_stage(timing.stage),
        start_microseconds=timing.start_microseconds,
        microseconds=timing.microseconds,
        inner_microseconds=timing.inner_microseconds,
    )


def _stage(name: str) -> search_pb2.Stage.ValueType:
    return search_pb2.Stage.Value(f"STAGE_{name.upper()}")
