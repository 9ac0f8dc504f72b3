"""Several legs become one ranking: numbers by hand."""

import math

import pytest

from core.ranking_wish import DISTRIBUTION, MIN_MAX, RRF, Z_SCORE
from gateway.contributions import METHODS
from gateway.fusion import (
    Candidate,
    Fused,
    FusionSettings,
    Ranking,
    blend,
    fuse,
    merge,
    scores_by_shard,
)


def candidates(*ids: str, shard: int = 0) -> Ranking:
    return Ranking.of(Candidate(id, 10.0 - place, shard) for place, id in enumerate(ids))


def scored(**scores: float) -> Ranking:
    return Ranking.of(Candidate(id, score, 0) for id, score in scores.items())


def ranking(*scores: float) -> list[Fused]:
    return [Fused(f"d{n}", 0, score, n, {}) for n, score in enumerate(scores, start=1)]


def test_a_document_scores_the_sum_of_its_reciprocal_ranks() -> None:
    legs = {"dense": candidates("a", "b"), "lexical": candidates("b", "c")}

    fused = fuse(legs, FusionSettings(k=60))[:]

    assert [f.id for f in fused] == ["b", "a", "c"]
    assert fused[0].score == pytest.approx(1 / (60 + 2) + 1 / (60 + 1))
    assert fused[1].score == pytest.approx(1 / (60 + 1))
    assert fused[2].score == pytest.approx(1 / (60 + 2))


def test_weights_scale_what_a_leg_adds() -> None:
    legs = {"dense": candidates("a"), "lexical": candidates("b")}

    fused = fuse(legs, FusionSettings(k=10, dense_weight=0.5, lexical_weight=2))[:]

    assert [f.id for f in fused] == ["b", "a"]
    assert [f.score for f in fused] == pytest.approx([2 / (10 + 1), 0.5 / (10 + 1)])


def test_three_legs_add_up_with_a_weight_each() -> None:
    legs = {
        "dense": candidates("a", "b"),
        "lexical": candidates("c", "a"),
        "sparse": candidates("b", "c", "a"),
    }
    settings = FusionSettings(k=10, dense_weight=1, lexical_weight=2, sparse_weight=3)

    fused = {f.id: f for f in fuse(legs, settings)[:]}

    assert {id: f.score for id, f in fused.items()} == {
        "a": pytest.approx(1 / (10 + 1) + 2 / (10 + 2) + 3 / (10 + 3)),
        "b": pytest.approx(1 / (10 + 2) + 3 / (10 + 1)),
        "c": pytest.approx(2 / (10 + 1) + 3 / (10 + 2)),
    }
    assert {leg: place.rank for leg, place in fused["a"].places.items()} == {
        "dense": 1,
        "lexical": 2,
        "sparse": 3,
    }


def test_equal_fused_scores_are_ordered_by_id() -> None:
    legs = {"dense": candidates("z"), "lexical": candidates("a")}

    assert fuse(legs, FusionSettings()).ids == ["a", "z"]


def test_provenance_keeps_each_legs_rank_and_score() -> None:
    legs = {"dense": candidates("a", "b"), "lexical": candidates("b")}

    b = next(f for f in fuse(legs, FusionSettings(k=60))[:] if f.id == "b")

    assert (b.places["dense"].rank, b.places["dense"].score) == (2, 9.0)
    assert b.places["lexical"].contribution == pytest.approx(1 / (60 + 1))


def test_any_part_of_the_order_can_be_taken() -> None:
    legs = {"dense": candidates("a", "b", "c"), "lexical": candidates("c", "d", shard=1)}

    order = fuse(legs, FusionSettings())

    assert (len(order), order.ids) == (4, ["c", "a", "b", "d"])
    assert [(f.id, f.rank, f.shard) for f in order[1:3]] == [("a", 2, 0), ("b", 3, 0)]
    assert order[3:9] == order[:][3:]
    assert order[9:12] == []


@pytest.mark.parametrize("method", METHODS)
def test_legs_that_found_nothing_change_nothing(method: str) -> None:
    settings = FusionSettings(method)
    dense = candidates("a", "b")

    assert (
        fuse({"dense": dense, "lexical": Ranking()}, settings)[:]
        == fuse({"dense": dense}, settings)[:]
    )
    assert fuse({"dense": Ranking(), "lexical": Ranking()}, settings)[:] == []
    assert fuse({}, settings)[:] == []


@pytest.mark.parametrize("method", METHODS)
def test_a_leg_of_weight_zero_lends_its_documents_without_a_score(method: str) -> None:
    legs = {"dense": scored(a=3, b=1), "lexical": scored(c=9, a=2)}

    fused = fuse(legs, FusionSettings(method, lexical_weight=0))[:]

    assert {f.id for f in fused} == {"a", "b", "c"}
    assert {f.id: f.score for f in fused}["c"] == 0
    assert all(f.places["lexical"].contribution == 0 for f in fused if "lexical" in f.places)


@pytest.mark.parametrize("method", METHODS)
def test_legs_of_weight_zero_count_alike_where_no_other_found_anything(method: str) -> None:
    legs = {"dense": Ranking(), "lexical": scored(c=9, a=2), "sparse": scored(b=5, c=1)}

    nothing = FusionSettings(method, lexical_weight=0, sparse_weight=0)

    assert fuse(legs, nothing)[:] == fuse(legs, FusionSettings(method))[:]
    assert fuse({"lexical": legs["lexical"]}, nothing).ids == ["c", "a"]


def scores(method: str, **legs: Ranking) -> dict[str, float]:
    return {f.id: f.score for f in fuse(legs, FusionSettings(method))[:]}


def test_min_max_brings_each_leg_to_zero_and_one() -> None:
    legs = {"dense": scored(a=0.9, b=0.6, c=0.5), "lexical": scored(b=20, d=15, a=10)}

    assert scores(MIN_MAX, **legs) == {
        "a": pytest.approx(1 + 0),
        "b": pytest.approx((0.6 - 0.5) / (0.9 - 0.5) + 1),
        "c": 0,
        "d": pytest.approx((15 - 10) / (20 - 10)),
    }


def test_z_scores_are_deviations_above_the_last() -> None:
    # Mean 3, variance ((5 - 3)² + (3 - 3)² + (1 - 3)²) / 3
    deviation = math.sqrt((4 + 0 + 4) / 3)

    assert scores(Z_SCORE, dense=scored(a=5, b=3, c=1), lexical=scored(c=7)) == {
        "a": pytest.approx((5 - 1) / deviation),
        "b": pytest.approx((3 - 1) / deviation),
        "c": pytest.approx(0 + 1),
    }


def test_distribution_brings_three_deviations_around_the_mean_to_zero_and_one() -> None:
    deviation = math.sqrt((4 + 0 + 4) / 3)
    low, high = 3 - 3 * deviation, 3 + 3 * deviation

    assert scores(DISTRIBUTION, dense=scored(a=5, b=3, c=1), lexical=scored(c=7)) == {
        "a": pytest.approx((5 - low) / (high - low)),
        "b": pytest.approx(1 / 2),
        "c": pytest.approx((1 - low) / (high - low) + 1 / 2),
    }


def test_a_score_below_three_deviations_counts_as_zero_and_one_above_as_more_than_one() -> None:
    # Eleven equal scores and one at a distance d: mean d / 12, variance 11 / 144 * d².
    distance = (1 - 1 / 12) / math.sqrt(11 / 144)
    level = {f"same-{n:02}": 0.0 for n in range(11)}

    high = scores(DISTRIBUTION, dense=scored(best=1.0, **level))
    low = scores(DISTRIBUTION, dense=scored(**level, worst=-1.0))

    assert distance > 3
    assert high["best"] == pytest.approx((distance + 3) / 6)
    assert low["worst"] == 0


@pytest.mark.parametrize(
    ("method", "worth"), [(MIN_MAX, 1), (Z_SCORE, 1), (DISTRIBUTION, 1 / 2), (RRF, None)]
)
def test_equal_scores_count_alike_and_one_candidate_as_they_do(
    method: str, worth: float | None
) -> None:
    settings = FusionSettings(method, lexical_weight=3)

    equal = fuse({"lexical": scored(a=0.1, b=0.1, c=0.1)}, settings)[:]
    single = fuse({"lexical": scored(a=-7)}, settings)[:]

    if worth is None:
        assert [f.score for f in equal] == pytest.approx([3 / 61, 3 / 62, 3 / 63])
        assert [f.score for f in single] == pytest.approx([3 / 61])
    else:
        assert [f.score for f in equal] == [3 * worth] * 3
        assert [f.score for f in single] == [3 * worth]
    assert [f.id for f in equal] == ["a", "b", "c"]


@pytest.mark.parametrize("method", METHODS)
def test_what_legs_add_sums_up_to_the_fused_score(method: str) -> None:
    legs = {
        "dense": scored(a=3, b=2.5, c=-1),
        "lexical": scored(d=12, b=11),
        "sparse": scored(c=1.5, d=0.25, a=0.125),
    }
    settings = FusionSettings(method, dense_weight=0.3, lexical_weight=1.7, sparse_weight=2)

    for fused in fuse(legs, settings)[:]:
        added = [place.contribution for place in fused.places.values()]
        assert fused.score == pytest.approx(sum(added))


def test_merging_shards_orders_by_score_then_id_and_cuts() -> None:
    left = [Candidate("b", 2.0, 0), Candidate("d", 1.0, 0)]
    right = [Candidate("a", 2.0, 1), Candidate("c", 3.0, 1)]

    merged = merge([Ranking.of(left), Ranking.of(right)], 3)

    assert [(c.id, c.shard) for c in merged] == [("c", 1), ("a", 1), ("b", 0)]


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_fusion_does_not_depend_on_how_candidates_were_spread(shards: int) -> None:
    everything = [Candidate(f"d{n:03}", float(n % 17), n % shards) for n in range(100)]
    everything.sort(key=lambda each: (-each.score, each.id))
    spread = [Ranking.of(c for c in everything if c.shard == shard) for shard in range(shards)]

    merged = merge(spread, 50)

    assert [c.id for c in merged] == [c.id for c in everything[:50]]


def test_what_shards_are_told_is_what_fusion_scores() -> None:
    legs = {
        "lexical": Ranking.of([Candidate("a", 9, 0), Candidate("b", 5, 1), Candidate("c", 1, 0)]),
        "sparse": Ranking.of([Candidate("c", 2, 0), Candidate("d", 1, 1)]),
    }
    settings = FusionSettings(lexical_weight=2)

    fused = fuse(legs, settings)[:]

    told = scores_by_shard(legs, settings)
    assert sorted(told) == [0, 1]
    assert {(shard, id, score) for shard in told for id, score in told[shard].items()} == {
        (each.shard, each.id, each.score) for each in fused
    }


def test_blending_weighs_min_max_scores_of_the_head() -> None:
    head = ranking(0.03, 0.02, 0.01)

    blended = blend(head, [0.0, 4.0, 2.0], weight=0.75)

    # fused brought to 1, 1/2, 0; logits to 0, 1, 1/2
    assert [b.fused.id for b in blended] == ["d2", "d3", "d1"]
    assert [b.score for b in blended] == pytest.approx(
        [0.25 * 0.5 + 0.75 * 1, 0.25 * 0 + 0.75 * 0.5, 0.25 * 1 + 0.75 * 0]
    )


def test_the_tail_keeps_its_order_below_the_head() -> None:
    blended = blend(ranking(0.04, 0.03, 0.02, 0.01), [-5.0, 5.0], weight=1)

    assert [b.fused.id for b in blended] == ["d2", "d1", "d3", "d4"]
    assert [b.score for b in blended] == sorted((b.score for b in blended), reverse=True)
    assert [b.logit for b in blended] == [5.0, -5.0, None, None]


def test_weight_zero_leaves_the_fused_order() -> None:
    blended = blend(ranking(0.03, 0.02, 0.01), [1.0, 2.0, 3.0], weight=0)

    assert [b.fused.id for b in blended] == ["d1", "d2", "d3"]


def test_equal_logits_leave_the_fused_order() -> None:
    blended = blend(ranking(0.03, 0.02), [1.5, 1.5], weight=1)

    assert [b.fused.id for b in blended] == ["d1", "d2"]


def test_a_final_score_is_the_sum_of_what_fusion_and_the_cross_encoder_gave() -> None:
    blended = blend(ranking(0.03, 0.02, 0.01), [-1.0, 3.0], weight=0.25)

    assert [b.fused.id for b in blended] == ["d1", "d2", "d3"]
    assert [b.fused_part for b in blended] == pytest.approx(
        [0.01 + 0.75 * 1, 0.01 + 0.75 * 0, 0.01]
    )
    assert [b.rerank_part for b in blended] == pytest.approx([0.25 * 0, 0.25 * 1, 0])
    assert [b.score for b in blended] == [b.fused_part + b.rerank_part for b in blended]


def test_nothing_reranked_leaves_fused_scores() -> None:
    assert [b.score for b in blend(ranking(0.03, 0.02), [], 0.5)] == [0.03, 0.02]
