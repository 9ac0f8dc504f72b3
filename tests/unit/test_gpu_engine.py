"""Searching on GPUs: what is asked of them, and when the CPU answers instead."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.gpu.device import MOST
from core.gpu.engine import fetch_plan
from core.vectors.index import VectorIndex
from core.vectors.selection import Selection
from tests.fakes.gpu import FakeDevice, Placed
from tests.fakes.indexes import clustered, make_index

ROWS = 6000
DIMENSION = 16
VECTORS = clustered(ROWS, DIMENSION)
QUERIES = clustered(20, DIMENSION, seed=5)
ON_GPU = ["flat", "ivf_flat", "ivf_sq8"]
# Enough that looking for candidates is cheaper than scoring them all.
THIRD = Selection(np.arange(ROWS) % 3 == 0)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VectorIndex]:
    folder = tmp_path_factory.mktemp("indexes")
    return {kind: make_index(folder / kind, VECTORS, kind) for kind in ON_GPU}


def same_answers(one: VectorIndex, other: VectorIndex, selection: Selection | None) -> bool:
    """Whether two indexes find the same rows with the same scores for every query."""
    for query in QUERIES:
        scores, rows = one.search(query, 20, selection)
        expected_scores, expected_rows = other.search(query, 20, selection)
        if rows.tolist() != expected_rows.tolist() or not np.allclose(scores, expected_scores):
            return False
    return True


@pytest.mark.parametrize("kind", ON_GPU)
@pytest.mark.parametrize("selection", [None, THIRD], ids=["all", "third"])
def test_an_index_on_a_gpu_finds_what_it_finds_on_the_cpu(
    indexes: dict[str, VectorIndex], kind: str, selection: Selection | None
) -> None:
    device = FakeDevice()
    placed = Placed(device)

    on_gpu = placed.placement.place(indexes[kind])
    before = device.searches

    assert same_answers(on_gpu, indexes[kind], selection)
    assert device.searches > before
    assert placed.places == {"gpu": 1}
    assert placed.fallbacks == {}


@pytest.mark.parametrize("kind", ON_GPU)
def test_what_may_not_be_found_is_dropped_where_selectors_are_ignored(
    indexes: dict[str, VectorIndex], kind: str
) -> None:
    on_gpu = Placed(FakeDevice()).placement.place(indexes[kind])

    for query in QUERIES:
        _, rows = on_gpu.search(query, 20, THIRD)
        assert len(rows) == 20
        assert THIRD.alive[rows].all()


def test_selectors_are_handed_on_where_the_probe_saw_them_heeded(
    indexes: dict[str, VectorIndex],
) -> None:
    device = FakeDevice(honours=True)
    on_gpu = Placed(device).placement.place(indexes["flat"])
    before = device.searches

    assert same_answers(on_gpu, indexes["flat"], THIRD)
    assert device.searches - before == len(QUERIES)


def test_a_selection_that_the_most_results_cannot_hold_is_searched_on_the_cpu(
    indexes: dict[str, VectorIndex],
) -> None:
    # 60 of 6,000: 50 of them lie among the nearest 5,000, which is more than a GPU returns.
    few = Selection(np.arange(ROWS) % 100 == 0)
    device = FakeDevice()
    placed = Placed(device)
    on_gpu = placed.placement.place(indexes["flat"])
    before = device.searches

    _, rows = on_gpu.search(QUERIES[0], 50, few)

    assert rows.tolist() == indexes["flat"].search(QUERIES[0], 50, few)[1].tolist()
    assert placed.fallbacks == {"filter": 1}
    assert device.searches == before


def test_rows_that_lie_far_from_the_query_are_found_on_the_cpu_in_the_end(
    indexes: dict[str, VectorIndex],
) -> None:
    order = np.argsort(VECTORS @ QUERIES[0])
    farthest = np.zeros(ROWS, np.bool_)
    farthest[order[:2000]] = True
    placed = Placed(FakeDevice())
    on_gpu = placed.placement.place(indexes["flat"])

    _, rows = on_gpu.search(QUERIES[0], 10, Selection(farthest))

    assert rows.tolist() == order[:2000][::-1][:10].tolist()
    assert placed.fallbacks == {"filter": 1}


def test_more_results_than_a_gpu_returns_come_from_the_cpu(
    indexes: dict[str, VectorIndex],
) -> None:
    placed = Placed(FakeDevice())
    on_gpu = placed.placement.place(indexes["flat"])

    _, rows = on_gpu.search(QUERIES[0], MOST + 1, None)

    assert len(rows) == MOST + 1
    assert placed.fallbacks == {"limits": 1}


def test_a_gpu_that_fails_in_a_search_is_answered_for(indexes: dict[str, VectorIndex]) -> None:
    device = FakeDevice()
    placed = Placed(device)
    on_gpu = placed.placement.place(indexes["ivf_flat"])
    device.failing = True

    assert same_answers(on_gpu, indexes["ivf_flat"], None)
    assert placed.fallbacks == {"failure": len(QUERIES)}


def test_scores_of_float16_vectors_are_computed_from_the_published_ones(
    indexes: dict[str, VectorIndex],
) -> None:
    on_gpu = Placed(FakeDevice(), float16=True).placement.place(indexes["flat"])

    for query in QUERIES:
        scores, rows = on_gpu.search(query, 20, None)
        assert scores.tolist() == indexes["flat"].scores_of(rows, query).tolist()
        assert rows.tolist() == indexes["flat"].search(query, 20, None)[1].tolist()


def test_threads_take_turns(indexes: dict[str, VectorIndex]) -> None:
    device = FakeDevice()
    placement = Placed(device).placement
    on_gpu = [placement.place(indexes[kind]) for kind in ON_GPU]
    together = threading.Barrier(4)

    def search(number: int) -> None:
        together.wait()
        for query in QUERIES:
            on_gpu[number % len(on_gpu)].search(query, 20, THIRD if number % 2 else None)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(search, range(4)))

    assert not device.disturbed


def test_as_many_are_fetched_as_hold_enough_of_a_selection() -> None:
    # A third may be found: 30 hold 10 of them, half as many again for bad luck, and 8.
    assert fetch_plan(10, 2000, 6000) == [30 + 15 + 8, MOST]
    assert fetch_plan(1000, 3000, 6000) == [MOST]
    assert fetch_plan(10, 20, 6000) == []
    assert fetch_plan(5, 10, 20) == [20]
