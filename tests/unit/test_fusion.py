"""Ranks become one ranking: numbers by hand."""

import pytest

from gateway.fusion import Candidate, Fused, FusionSettings, blend, fuse, merge


def candidates(*ids: str, shard: int = 0) -> list[Candidate]:
    return [Candidate(id, 10.0 - place, shard) for place, id in enumerate(ids)]


def ranking(*scores: float) -> list[Fused]:
    return [Fused(f"d{n}", 0, score, n, {}) for n, score in enumerate(scores, start=1)]


def test_a_document_scores_the_sum_of_its_reciprocal_ranks() -> None:
    legs = {"dense": candidates("a", "b"), "lexical": candidates("b", "c")}

    fused = fuse(legs, FusionSettings(k=60), 10)

    assert [f.id for f in fused] == ["b", "a", "c"]
    assert fused[0].score == pytest.approx(1 / (60 + 2) + 1 / (60 + 1))
    assert fused[1].score == pytest.approx(1 / (60 + 1))
    assert fused[2].score == pytest.approx(1 / (60 + 2))


def test_weights_scale_what_a_leg_adds() -> None:
    legs = {"dense": candidates("a"), "lexical": candidates("b")}

    fused = fuse(legs, FusionSettings(k=10, dense_weight=0.5, lexical_weight=2), 10)

    assert [f.id for f in fused] == ["b", "a"]
    assert [f.score for f in fused] == pytest.approx([2 / (10 + 1), 0.5 / (10 + 1)])


def test_three_legs_add_up_with_a_weight_each() -> None:
    legs = {
        "dense": candidates("a", "b"),
        "lexical": candidates("c", "a"),
        "sparse": candidates("b", "c", "a"),
    }
    settings = FusionSettings(k=10, dense_weight=1, lexical_weight=2, sparse_weight=3)

    fused = {f.id: f for f in fuse(legs, settings, 10)}

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

    assert [f.id for f in fuse(legs, FusionSettings(), 10)] == ["a", "z"]


def test_provenance_keeps_each_legs_rank_and_score() -> None:
    legs = {"dense": candidates("a", "b"), "lexical": candidates("b")}

    b = next(f for f in fuse(legs, FusionSettings(k=60), 10) if f.id == "b")

    assert (b.places["dense"].rank, b.places["dense"].score) == (2, 9.0)
    assert b.places["lexical"].contribution == pytest.approx(1 / (60 + 1))


def test_only_the_head_is_kept() -> None:
    legs = {"dense": candidates("a", "b", "c"), "lexical": candidates("c", "d")}

    assert [f.id for f in fuse(legs, FusionSettings(), 2)] == ["c", "a"]


def test_merging_shards_orders_by_score_then_id_and_cuts() -> None:
    left = [Candidate("b", 2.0, 0), Candidate("d", 1.0, 0)]
    right = [Candidate("a", 2.0, 1), Candidate("c", 3.0, 1)]

    merged = merge([left, right], 3)

    assert [(c.id, c.shard) for c in merged] == [("c", 1), ("a", 1), ("b", 0)]


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_fusion_does_not_depend_on_how_candidates_were_spread(shards: int) -> None:
    everything = [Candidate(f"d{n:03}", float(n % 17), n % shards) for n in range(100)]
    spread = [[c for c in everything if c.shard == shard] for shard in range(shards)]

    merged = merge(spread, 50)

    assert [c.id for c in merged] == [c.id for c in merge([everything], 50)]


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


def test_nothing_reranked_leaves_fused_scores() -> None:
    assert [b.score for b in blend(ranking(0.03, 0.02), [], 0.5)] == [0.03, 0.02]
