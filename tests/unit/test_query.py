"""What a search request must be like: every refusal names field, problem and remedy."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidInput, Unsupported
from gateway.config import GatewayConfig
from gateway.fusion import FusionSettings
from gateway.query import DENSE, LEXICAL, SPARSE
from gateway.service import query_from_proto
from trireme.v1 import document_pb2, search_pb2

CONFIG = GatewayConfig(
    address="127.0.0.1:0",
    shards=("127.0.0.1:1",),
    indexer_address="127.0.0.1:2",
    triton_address="127.0.0.1:3",
    model_directory=Path("models"),
    rerank_depth=20,
    rerank_weight=0.5,
)


def request(**fields: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(**{"collection": "docs", "query": "words", **fields})


def test_defaults_are_those_of_the_contract() -> None:
    query = query_from_proto(request(), CONFIG)

    assert (query.page_size, query.window) == (10, 100)
    assert query.legs == frozenset(), "all that the collection has"
    assert query.fusion == FusionSettings("rrf", 60, 1, 1, 1)
    assert (query.rerank.enabled, query.rerank.depth, query.rerank.weight) == (True, 20, 0.5)


def test_a_weight_of_zero_is_not_the_default() -> None:
    query = query_from_proto(
        request(fusion=search_pb2.Fusion(dense_weight=0), rerank=search_pb2.Rerank(weight=0)),
        CONFIG,
    )

    assert (query.fusion.dense_weight, query.rerank.weight) == (0, 0)


def test_a_window_grows_with_the_page() -> None:
    assert query_from_proto(request(page_size=500), CONFIG).window == 500


@pytest.mark.parametrize(
    ("fields", "legs"),
    [
        ({"mode": search_pb2.SEARCH_MODE_HYBRID}, set()),
        ({"mode": search_pb2.SEARCH_MODE_DENSE}, {DENSE}),
        ({"mode": search_pb2.SEARCH_MODE_LEXICAL}, {LEXICAL}),
        ({"mode": search_pb2.SEARCH_MODE_SPARSE}, {SPARSE}),
        (
            {"legs": [search_pb2.SEARCH_LEG_SPARSE, search_pb2.SEARCH_LEG_DENSE]},
            {DENSE, SPARSE},
        ),
    ],
)
def test_legs_are_chosen_by_mode_or_by_name(fields: dict[str, Any], legs: set[str]) -> None:
    assert query_from_proto(request(**fields), CONFIG).legs == legs


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"collection": ""}, "FIELD_REQUIRED", "collection"),
        ({"query": ""}, "FIELD_REQUIRED", "query"),
        ({"query": " \n\t"}, "FIELD_REQUIRED", "query"),
        ({"query": "x" * 4097}, "TOO_LONG", "query"),
        ({"query": "nul \x00"}, "NOT_UTF8", "query"),
        ({"page_size": -1}, "OUT_OF_RANGE", "page_size"),
        ({"page_size": 1001}, "OUT_OF_RANGE", "page_size"),
        ({"page_size": 50, "window": 49}, "OUT_OF_RANGE", "window"),
        ({"window": 1001}, "OUT_OF_RANGE", "window"),
        ({"mode": 9}, "OUT_OF_RANGE", "mode"),
        ({"mode": 2, "legs": [1]}, "MALFORMED", "mode"),
        ({"legs": [0]}, "OUT_OF_RANGE", "legs"),
        ({"legs": [9]}, "OUT_OF_RANGE", "legs"),
        ({"legs": [2, 2]}, "MALFORMED", "legs"),
        (
            {"fusion": search_pb2.Fusion(sparse_weight=101)},
            "OUT_OF_RANGE",
            "fusion.sparse_weight",
        ),
        ({"fusion": search_pb2.Fusion(method=99)}, "UNKNOWN_FUSION", "fusion.method"),  # type: ignore[arg-type]
        ({"fusion": search_pb2.Fusion(k=0)}, "OUT_OF_RANGE", "fusion.k"),
        ({"fusion": search_pb2.Fusion(k=float("nan"))}, "OUT_OF_RANGE", "fusion.k"),
        (
            {"fusion": search_pb2.Fusion(lexical_weight=-1)},
            "OUT_OF_RANGE",
            "fusion.lexical_weight",
        ),
        ({"rerank": search_pb2.Rerank(depth=201)}, "OUT_OF_RANGE", "rerank.depth"),
        ({"rerank": search_pb2.Rerank(weight=1.5)}, "OUT_OF_RANGE", "rerank.weight"),
        (
            {
                "min_position": document_pb2.Position(
                    shards=[document_pb2.ShardPosition(shard=0, sequence=-1)]
                )
            },
            "OUT_OF_RANGE",
            "min_position.shards[0].sequence",
        ),
    ],
)
def test_a_bad_request_is_refused_by_field(fields: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        query_from_proto(request(**fields), CONFIG)

    assert (refusal.value.reason, refusal.value.field) == (reason, field)
    assert field in str(refusal.value)


def test_a_filter_is_refused_rather_than_ignored() -> None:
    with pytest.raises(Unsupported, match="filter"):
        query_from_proto(request(filter='lang = "en"'), CONFIG)
