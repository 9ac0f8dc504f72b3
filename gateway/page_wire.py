"""A place among frozen candidates to the body of a page token, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from core.ranking_wire import METHOD_TO_PROTO
from core.wire import value_from_proto, value_to_proto
from gateway.answer_wire import (
    degradation_to_proto,
    fusion_to_proto,
    model_to_proto,
    shard_to_proto,
)
from gateway.candidates import Candidates, Place
from gateway.fusion import FusionSettings, Ranking, fuse
from gateway.groups import GroupValue, Memberships
from gateway.query import Degradation, ModelUsed, RerankSettings, ShardAnswer
from trireme.gateway.v1 import page_pb2
from trireme.v1 import collection_pb2, error_reason_pb2, ranking_pb2, search_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METHODS = {number: method for method, number in METHOD_TO_PROTO.items()}


def request_digest(request: search_pb2.SearchRequest) -> bytes:
    """Stands for all of a request that must not change from page to page."""
    lasting = search_pb2.SearchRequest()
    lasting.CopyFrom(request)
    for name in ("page_token", "page_size", "highlight"):
        lasting.ClearField(name)
    return hashlib.blake2b(lasting.SerializeToString(deterministic=True), digest_size=16).digest()


def place_to_bytes(place: Place, digest: bytes) -> bytes:
    """The place in the answer to the request with that digest, serialised."""
    candidates = place.candidates
    rerank = candidates.rerank
    places = dict(zip(candidates.order.ids, range(len(candidates.order)), strict=True))
    message = page_pb2.PageToken(
        expires_microseconds=(place.expires - _EPOCH) // timedelta(microseconds=1),
        request_digest=digest,
        offset=place.offset,
        collection_uid=candidates.uid,
        shards=map(shard_to_proto, candidates.shards),
        degraded=map(degradation_to_proto, candidates.degraded),
        coverage=candidates.coverage,
        fusion=fusion_to_proto(candidates.fusion),
        rerank=ranking_pb2.Rerank(enabled=rerank.enabled, depth=rerank.depth, weight=rerank.weight),
        window=candidates.window,
        encoder=model_to_proto(candidates.encoder),
        sparse_encoder=model_to_proto(candidates.sparse_encoder),
        reranker=model_to_proto(candidates.reranker),
        logits=candidates.logits,
        ids=candidates.order.ids,
        left_out=sorted(places[id] for id in candidates.left_out),
        groups=_groups_to_proto(candidates.memberships, places),
    )
    for leg, ranking in candidates.rankings.items():
        message.legs.add(
            leg=leg,
            candidates=map(places.__getitem__, ranking.ids),
            scores=ranking.scores,
            shards=ranking.shards,
        )
    return message.SerializeToString()


def place_from_bytes(data: bytes) -> tuple[Place, bytes]:
    """The place that `place_to_bytes` wrote, and the digest of its request."""
    message = page_pb2.PageToken.FromString(data)
    expires = _EPOCH + timedelta(microseconds=message.expires_microseconds)
    return Place(_candidates(message), message.offset, expires), message.request_digest


def _candidates(message: page_pb2.PageToken) -> Candidates:
    ids = list(message.ids)
    rankings = {
        leg.leg: Ranking([ids[each] for each in leg.candidates], list(leg.scores), list(leg.shards))
        for leg in message.legs
    }
    fusion = _fusion(message.fusion)
    rerank = message.rerank
    return Candidates(
        uid=message.collection_uid,
        rankings=rankings,
        order=fuse(rankings, fusion),
        fusion=fusion,
        rerank=RerankSettings(rerank.enabled, rerank.depth, rerank.weight),
        window=message.window,
        shards=[_shard(shard) for shard in message.shards],
        degraded=[_degradation(shortfall) for shortfall in message.degraded],
        coverage=message.coverage,
        encoder=_model(message.encoder),
        sparse_encoder=_model(message.sparse_encoder),
        reranker=_model(message.reranker),
        logits=list(message.logits),
        left_out=frozenset(ids[place] for place in message.left_out),
        memberships=_memberships(message.groups, ids) if message.HasField("groups") else None,
    )


def _groups_to_proto(
    memberships: Memberships | None, places: Mapping[str, int]
) -> page_pb2.CandidateGroups | None:
    if memberships is None:
        return None
    numbers: dict[tuple[type, GroupValue], int] = {}
    groups = [
        [numbers.setdefault((type(value), value), len(numbers)) for value in values]
        for values in memberships.values()
    ]
    return page_pb2.CandidateGroups(
        values=[value_to_proto(value) for _, value in numbers],
        candidates=[places[id] for id in memberships],
        counts=map(len, groups),
        groups=[number for each in groups for number in each],
    )


def _memberships(message: page_pb2.CandidateGroups, ids: Sequence[str]) -> Memberships:
    values = [value_from_proto(value) for value in message.values]
    groups = iter(message.groups)
    return {
        ids[place]: [values[number] for number in islice(groups, count)]
        for place, count in zip(message.candidates, message.counts, strict=True)
    }


def _fusion(message: ranking_pb2.Fusion) -> FusionSettings:
    return FusionSettings(
        method=_METHODS[message.method],
        k=message.k,
        dense_weight=message.dense_weight,
        lexical_weight=message.lexical_weight,
        sparse_weight=message.sparse_weight,
    )


def _shard(message: search_pb2.ShardAnswer) -> ShardAnswer:
    return ShardAnswer(
        message.shard, message.complete, message.epoch, message.generation, message.sequence
    )


def _degradation(message: search_pb2.Degradation) -> Degradation:
    return Degradation(
        search_pb2.Stage.Name(message.stage).removeprefix("STAGE_").lower(),
        error_reason_pb2.ErrorReason.Name(message.reason).removeprefix("ERROR_REASON_"),
        message.message,
        tuple(message.shards),
    )


def _model(message: collection_pb2.ModelVersion) -> ModelUsed | None:
    if not message.model:
        return None
    return ModelUsed(message.model, message.version, message.fingerprint)
