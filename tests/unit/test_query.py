"""What a search request must be like: every refusal names field, problem and remedy."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidInput
from core.ranking_wire import METHOD_TO_PROTO
from core.ranking_wish import MIN_MAX, OPEN, FusionWish, RankingWish, RerankWish
from gateway.config import GatewayConfig
from gateway.fusion import FusionSettings
from gateway.query import DENSE, LEXICAL, SPARSE
from gateway.request_wire import query_from_proto
from trireme.v1 import document_pb2, ranking_pb2, search_pb2

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
        request(fusion=ranking_pb2.Fusion(dense_weight=0), rerank=ranking_pb2.Rerank(weight=0)),
        CONFIG,
    )

    assert (query.fusion.dense_weight, query.rerank.weight) == (0, 0)


def test_a_window_grows_with_the_page() -> None:
    assert query_from_proto(request(page_size=500), CONFIG).window == 500


def test_what_the_request_leaves_open_is_as_the_collection_says() -> None:
    asked = request(
        fusion=ranking_pb2.Fusion(lexical_weight=0),
        rerank=ranking_pb2.Rerank(depth=7),
    )
    defaults = RankingWish(
        FusionWish(MIN_MAX, dense_weight=0.7, lexical_weight=0.3),
        RerankWish(depth=50, weight=0.1),
        window=300,
    )

    query = query_from_proto(asked, CONFIG).settled(defaults)

    assert query.fusion == FusionSettings(MIN_MAX, 60, 0.7, 0, 1)
    assert (query.rerank.enabled, query.rerank.depth, query.rerank.weight) == (True, 7, 0.1)
    assert query.window == 300


def test_a_collection_that_says_nothing_changes_nothing() -> None:
    query = query_from_proto(request(window=40), CONFIG)

    assert query.settled(OPEN) is query
    assert query.settled(RankingWish(window=500)).window == 40


def test_a_collections_window_grows_with_the_page_too() -> None:
    query = query_from_proto(request(page_size=80), CONFIG)

    assert query.settled(RankingWish(window=50)).window == 80


def test_a_collection_can_switch_reranking_off_and_a_request_on_again() -> None:
    off = RankingWish(rerank=RerankWish(enabled=False))
    on = request(rerank=ranking_pb2.Rerank(enabled=True))

    assert query_from_proto(request(), CONFIG).settled(off).rerank_depth == 0
    assert query_from_proto(on, CONFIG).settled(off).rerank_depth == 20


@pytest.mark.parametrize("method", METHOD_TO_PROTO)
def test_every_method_can_be_asked_for(method: str) -> None:
    asked = request(fusion=ranking_pb2.Fusion(method=METHOD_TO_PROTO[method]))

    assert query_from_proto(asked, CONFIG).fusion.method == method


def test_pages_groups_and_coverage_are_taken_over() -> None:
    query = query_from_proto(
        request(group_by="year", group_size=3, min_coverage=0.5, highlight=True), CONFIG
    )

    assert (query.group_by, query.group_size) == ("year", 3)
    assert (query.min_coverage, query.highlight, query.page_token) == (0.5, True, "")
    assert query_from_proto(request(group_by="year"), CONFIG).group_size == 1


def test_a_longer_page_later_on_is_no_fault_of_the_window() -> None:
    query = query_from_proto(request(page_token="t", page_size=50, window=20), CONFIG)

    assert (query.page_token, query.page_size) == ("t", 50)


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
        ({"group_size": 2}, "MALFORMED", "group_size"),
        ({"group_by": "year", "group_size": 101}, "OUT_OF_RANGE", "group_size"),
        ({"group_by": "year", "group_size": -1}, "OUT_OF_RANGE", "group_size"),
        ({"group_by": "x" * 129}, "TOO_LONG", "group_by"),
        ({"min_coverage": 1.5}, "OUT_OF_RANGE", "min_coverage"),
        ({"min_coverage": float("nan")}, "OUT_OF_RANGE", "min_coverage"),
        (
            {"fusion": ranking_pb2.Fusion(sparse_weight=101)},
            "OUT_OF_RANGE",
            "fusion.sparse_weight",
        ),
        ({"fusion": ranking_pb2.Fusion(method=99)}, "UNKNOWN_FUSION", "fusion.method"),  # type: ignore[arg-type]
        ({"fusion": ranking_pb2.Fusion(k=0)}, "OUT_OF_RANGE", "fusion.k"),
        ({"fusion": ranking_pb2.Fusion(k=float("nan"))}, "OUT_OF_RANGE", "fusion.k"),
        (
            {"fusion": ranking_pb2.Fusion(lexical_weight=-1)},
            "OUT_OF_RANGE",
            "fusion.lexical_weight",
        ),
        ({"rerank": ranking_pb2.Rerank(depth=201)}, "OUT_OF_RANGE", "rerank.depth"),
        ({"rerank": ranking_pb2.Rerank(weight=1.5)}, "OUT_OF_RANGE", "rerank.weight"),
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


def test_a_filter_is_read_at_once() -> None:
    assert str(query_from_proto(request(filter=" lang='en'  draft"), CONFIG).filter) == (
        'lang = "en" AND draft'
    )
    assert query_from_proto(request(), CONFIG).filter is None
    with pytest.raises(InvalidInput, match="at character 7") as refusal:
        query_from_proto(request(filter="lang ="), CONFIG)
    assert (refusal.value.reason, refusal.value.field) == ("INVALID_FILTER", "filter")
