"""What requests count before anything is done for them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.lanes import Lane
from gateway.work_wire import MOST_UNITS, batch_work, inference_work, search_work
from trireme.v1 import inference_pb2, ranking_pb2, search_pb2

USUAL_DEPTH = 20
LANE = Lane.INTERACTIVE


def search(**fields: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection="papers", query="heart", **fields)


def rerank(**fields: Any) -> ranking_pb2.Rerank:
    return ranking_pb2.Rerank(**fields)


@pytest.mark.parametrize(
    ("request_", "units"),
    [
        (search(rerank=rerank(enabled=False)), 1),
        (search(), 1 + USUAL_DEPTH / 20),
        (search(rerank=rerank(depth=1)), 1 + 1),
        (search(rerank=rerank(depth=100)), 1 + 100 / 20),
        (search(rerank=rerank(enabled=False, depth=100)), 1),
        (search(rerank=rerank(depth=2**31 - 1)), MOST_UNITS),
        (search(page_token="x", rerank=rerank(depth=100)), 1),
    ],
)
def test_a_search_counts_by_what_it_reranks(
    request_: search_pb2.SearchRequest, units: float
) -> None:
    assert search_work(request_, USUAL_DEPTH, LANE).units == units


def test_searches_are_compared_with_those_that_cost_the_same() -> None:
    lexical = search(mode=search_pb2.SEARCH_MODE_LEXICAL)
    kinds = {
        search_work(each, USUAL_DEPTH, LANE).kind
        for each in (search(), lexical, search(rerank=rerank(depth=100)), search(page_token="x"))
    }

    assert len(kinds) == 4
    assert search_work(search(), USUAL_DEPTH, LANE) == search_work(
        search(page_size=3), USUAL_DEPTH, LANE
    )


def test_a_batch_counts_as_its_dearest_search() -> None:
    dear = search(rerank=rerank(depth=100))

    assert batch_work([search(), dear, search()], USUAL_DEPTH, LANE).units == 1 + 100 / 20


@pytest.mark.parametrize(
    ("request_", "units"),
    [
        (inference_pb2.EmbedRequest(texts=["a"]), 1),
        (inference_pb2.EmbedRequest(texts=["a"] * 40), 3),
        (inference_pb2.EmbedSparseRequest(texts=["a"] * 16), 1),
        (inference_pb2.RerankRequest(passages=["a"] * 60), 3),
        (inference_pb2.RerankRequest(), 1),
    ],
)
def test_an_inference_counts_by_its_texts(request_: Any, units: float) -> None:
    assert inference_work(request_, LANE).units == units
