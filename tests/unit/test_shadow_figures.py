"""Overlap and nDCG of what two indexes found."""

from __future__ import annotations

import math

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import nDCG

from gateway.live_queries import LiveQueries
from gateway.shadow_figures import Pair, ShadowQuery, figures, ndcg, overlap

IDS = st.sampled_from([f"d{number}" for number in range(30)])


def test_overlap_is_the_share_of_the_sources_hits() -> None:
    assert overlap(["a", "b", "c", "d"], ["d", "x", "a"]) == 2 / 4
    assert overlap(["a"], ["a", "b", "c"]) == 1
    assert overlap(["a"], []) == 0


def test_overlap_ends_at_the_tenth_hit() -> None:
    first = [f"d{number}" for number in range(20)]

    assert overlap(first, first[10:] + first[:10]) == 0


def test_ndcg_weighs_grades_by_rank() -> None:
    found = ndcg(["b", "a", "z"], {"a": 3, "b": 1})

    assert found == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


@given(st.lists(IDS, max_size=15, unique=True), st.dictionaries(IDS, st.integers(0, 3), min_size=1))
def test_ndcg_is_that_of_trec_eval(found: list[str], judgments: dict[str, int]) -> None:
    evaluator = ir_measures.evaluator([nDCG @ 10], {"q": judgments})
    run = {"q": {id: -float(rank) for rank, id in enumerate(found)}}
    expected = [metric.value for metric in evaluator.iter_calc(run)] if found else [0.0]

    assert ndcg(found, judgments) == pytest.approx(expected[0])


def test_figures_are_means_over_whole_pairs() -> None:
    pairs = [
        Pair(ShadowQuery("owl", {"a": 1}), ["a", "b"], ["a", "b"]),
        Pair(ShadowQuery("bat", {"z": 0}), ["a", "b"], ["b", "c"]),
        Pair(ShadowQuery("eel"), [], ["a"]),
        Pair(ShadowQuery("emu"), whole=False),
    ]

    found = figures(pairs)

    assert (found.query_count, found.incomplete_count) == (4, 1)
    assert found.mean_overlap == (1 + 1 / 2) / 2
    assert (found.lowest_query, found.lowest_overlap) == ("bat", 1 / 2)
    assert (found.judged_count, found.source_ndcg, found.target_ndcg) == (1, 1, 1)
    assert (found.ndcg_difference_low, found.ndcg_difference_high) == (0, 0)


def test_a_loss_shows_in_the_interval() -> None:
    pairs = [Pair(ShadowQuery(f"q{n}", {"a": 1}), ["a"], ["b", "a"]) for n in range(20)]

    found = figures(pairs)

    assert found.source_ndcg == 1
    assert found.target_ndcg == pytest.approx(1 / math.log2(3))
    assert found.ndcg_difference_low == pytest.approx(1 / math.log2(3) - 1)


def test_live_queries_are_kept_only_if_asked_for() -> None:
    off, on = LiveQueries(0, str), LiveQueries(2, lambda name: name.removeprefix("alias-"))
    for queries in (off, on):
        for name, text in (("papers", "a"), ("alias-papers", "b"), ("papers", "b"), ("x", "c")):
            queries.note(name, text)

    assert off.latest("papers", 10) == []
    assert on.latest("papers", 10) == ["b"]
    assert on.latest("x", 10) == ["c"]


def test_the_latest_queries_come_first_and_once() -> None:
    queries = LiveQueries(10, str)
    for text in ("a", "b", "a", "c"):
        queries.note("papers", text)

    assert queries.latest("papers", 2) == ["c", "a"]


def test_collections_asked_long_ago_are_forgotten() -> None:
    queries = LiveQueries(10, str, most=2)
    for name in ("old", "newer", "newest"):
        queries.note(name, "text")

    assert [queries.latest(name, 1) for name in ("old", "newer", "newest")] == [
        [],
        ["text"],
        ["text"],
    ]
