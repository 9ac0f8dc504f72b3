"""Between messages about ranking and what they say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from core.errors import InvalidInput
from core.ranges import count_within, within
from core.ranking_wish import (
    DISTRIBUTION,
    MAX_K,
    MAX_RERANK_DEPTH,
    MAX_WEIGHT,
    MAX_WINDOW,
    MIN_MAX,
    OPEN,
    RRF,
    Z_SCORE,
    FusionWish,
    RankingWish,
    RerankWish,
)
from trireme.v1 import ranking_pb2, search_pb2

METHOD_TO_PROTO = {
    RRF: ranking_pb2.FUSION_METHOD_RRF,
    MIN_MAX: ranking_pb2.FUSION_METHOD_MIN_MAX,
    Z_SCORE: ranking_pb2.FUSION_METHOD_Z_SCORE,
    DISTRIBUTION: ranking_pb2.FUSION_METHOD_DISTRIBUTION,
}
_METHODS = {number: method for method, number in METHOD_TO_PROTO.items()}


def wish_from_proto(
    message: search_pb2.SearchRequest | ranking_pb2.SearchDefaults, path: str = ""
) -> RankingWish:
    """What a message says; raises InvalidInput naming the field, with `path` before it."""
    fusion, rerank = OPEN.fusion, OPEN.rerank
    if message.HasField("fusion"):
        fusion = _fusion_from_proto(message.fusion, f"{path}fusion")
    if message.HasField("rerank"):
        rerank = _rerank_from_proto(message.rerank, f"{path}rerank")
    return RankingWish(fusion, rerank, count_within(message.window, MAX_WINDOW, f"{path}window"))


def wish_to_proto(wish: RankingWish) -> ranking_pb2.SearchDefaults | None:
    """The message that says the same; None if nothing is said."""
    if wish == OPEN:
        return None
    message = ranking_pb2.SearchDefaults(window=wish.window or 0)
    if wish.fusion != OPEN.fusion:
        method = METHOD_TO_PROTO[wish.fusion.method] if wish.fusion.method else None
        values = asdict(wish.fusion) | {"method": method}
        message.fusion.CopyFrom(ranking_pb2.Fusion(**values))
    if wish.rerank != OPEN.rerank:
        message.rerank.CopyFrom(ranking_pb2.Rerank(**asdict(wish.rerank)))
    return message


def _fusion_from_proto(message: ranking_pb2.Fusion, path: str) -> FusionWish:
    if message.method and message.method not in _METHODS:
        raise InvalidInput(
            "UNKNOWN_FUSION",
            f"{message.method} is not a FusionMethod",
            field=f"{path}.method",
            remedy=f"use {', '.join(map(ranking_pb2.FusionMethod.Name, _METHODS))}",
        )
    return FusionWish(
        method=_METHODS.get(message.method),
        k=_number(message, "k", 1, MAX_K, path),
        dense_weight=_number(message, "dense_weight", 0, MAX_WEIGHT, path),
        lexical_weight=_number(message, "lexical_weight", 0, MAX_WEIGHT, path),
        sparse_weight=_number(message, "sparse_weight", 0, MAX_WEIGHT, path),
    )


def _rerank_from_proto(message: ranking_pb2.Rerank, path: str) -> RerankWish:
    return RerankWish(
        enabled=message.enabled if message.HasField("enabled") else None,
        depth=count_within(message.depth, MAX_RERANK_DEPTH, f"{path}.depth"),
        weight=_number(message, "weight", 0, 1, path),
    )


def _number(message: Any, name: str, low: float, high: float, path: str) -> float | None:
    if not message.HasField(name):
        return None
    return within(float(getattr(message, name)), low, high, f"{path}.{name}")
