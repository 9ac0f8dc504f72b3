"""What holds of fusion and blending, whatever the legs and the cross-encoder say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ranking_wish import DISTRIBUTION
from gateway.contributions import METHODS
from gateway.fusion import Candidate, Fused, FusionSettings, Ranking, blend, fuse

LEGS = ("dense", "lexical", "sparse")
METHOD = st.sampled_from(sorted(METHODS))
WEIGHT = st.sampled_from([0.0, 0.3, 1.0, 2.5])
SETTINGS = st.builds(
    FusionSettings,
    method=METHOD,
    k=st.sampled_from([1.0, 60.0, 1000.0]),
    dense_weight=WEIGHT,
    lexical_weight=WEIGHT,
    sparse_weight=WEIGHT,
)
# Eighths, so that ties are common and sums of them exact.
SCORE = st.integers(-800, 800).map(lambda eighths: eighths / 8)


@st.composite
def found(draw: st.DrawFn) -> Ranking:
    """One leg: best first, ties by id."""
    by_id = draw(st.dictionaries(st.sampled_from("abcdefghij"), SCORE, max_size=10))
    ordered = sorted(by_id, key=lambda id: (-by_id[id], id))
    return Ranking.of(Candidate(id, by_id[id], ord(id) % 3) for id in ordered)


SOME_LEGS = st.dictionaries(st.sampled_from(LEGS), found(), max_size=3)


@given(legs=SOME_LEGS, settings=SETTINGS)
def test_every_candidate_has_one_place_and_its_own_facts(
    legs: dict[str, Ranking], settings: FusionSettings
) -> None:
    order = fuse(legs, settings)

    everything = {candidate.id for ranking in legs.values() for candidate in ranking}
    assert sorted(order.ids) == sorted(everything)
    for rank, fused in enumerate(order[:], start=1):
        assert (fused.id, fused.rank) == (order.ids[rank - 1], rank)
        assert fused.score == pytest.approx(sum(p.contribution for p in fused.places.values()))
        for leg, place in fused.places.items():
            assert list(legs[leg])[place.rank - 1] == (fused.id, place.score, fused.shard)


@given(legs=SOME_LEGS, settings=SETTINGS)
def test_scores_descend_are_not_negative_and_ties_are_by_id(
    legs: dict[str, Ranking], settings: FusionSettings
) -> None:
    fused = fuse(legs, settings)[:]

    assert all(f.score >= 0 for f in fused)
    assert [(-f.score, f.id) for f in fused] == sorted((-f.score, f.id) for f in fused)


@given(legs=SOME_LEGS, settings=SETTINGS, data=st.data())
def test_the_order_of_legs_changes_nothing(
    legs: dict[str, Ranking], settings: FusionSettings, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(legs)))

    assert fuse({leg: legs[leg] for leg in shuffled}, settings)[:] == fuse(legs, settings)[:]


@given(
    legs=SOME_LEGS,
    settings=SETTINGS,
    scale=st.sampled_from([1 / 1024, 0.1, 3.0, 4096.0]),
    shift=st.sampled_from([-1000.0, 0.0, 0.7]),
)
def test_the_scale_of_a_leg_does_not_matter(
    legs: dict[str, Ranking], settings: FusionSettings, scale: float, shift: float
) -> None:
    moved = {
        leg: Ranking(ranking.ids, [scale * each + shift for each in ranking.scores], ranking.shards)
        for leg, ranking in legs.items()
    }

    before = {f.id: f.score for f in fuse(legs, settings)[:]}
    after = {f.id: f.score for f in fuse(moved, settings)[:]}

    assert after == {id: pytest.approx(score, rel=1e-6, abs=1e-6) for id, score in before.items()}


@given(ranking=found(), settings=SETTINGS)
def test_one_leg_alone_keeps_its_order(ranking: Ranking, settings: FusionSettings) -> None:
    fused = fuse({"dense": ranking}, settings)[:]

    added = {f.id: f.places["dense"].contribution for f in fused}
    for better, worse in itertools.pairwise(ranking):
        assert added[better.id] >= added[worse.id]
        is_cut = settings.method == DISTRIBUTION and added[better.id] == 0
        if better.score > worse.score and not is_cut:
            assert added[better.id] > added[worse.id]


@given(legs=SOME_LEGS, settings=SETTINGS)
def test_who_is_better_in_every_leg_is_not_worse_in_all(
    legs: dict[str, Ranking], settings: FusionSettings
) -> None:
    everything = fuse(legs, settings)[:]

    for one, other in itertools.permutations(everything, 2):
        if all(
            leg in one.places and one.places[leg].rank <= place.rank
            for leg, place in other.places.items()
        ):
            assert one.score >= other.score


@st.composite
def fused_lists(draw: st.DrawFn) -> list[Fused]:
    """A fused ranking by any method."""
    legs = draw(SOME_LEGS.filter(lambda legs: any(legs.values())))
    return fuse(legs, draw(SETTINGS))[:]


LOGITS = st.lists(st.floats(-12, 12), min_size=10, max_size=10)


@given(ranking=fused_lists(), logits=LOGITS, depth=st.integers(0, 10), weight=st.floats(0, 1))
def test_final_scores_descend_and_nothing_passes_from_the_tail_into_the_head(
    ranking: list[Fused], logits: list[float], depth: int, weight: float
) -> None:
    depth = min(depth, len(ranking))

    blended = blend(ranking, logits[:depth], weight)

    assert [b.score for b in blended] == sorted((b.score for b in blended), reverse=True)
    assert sorted(b.fused.rank for b in blended[:depth]) == list(range(1, depth + 1))
    assert [b.fused for b in blended[depth:]] == ranking[depth:]
    assert [b.logit for b in blended[depth:]] == [None] * (len(ranking) - depth)


@given(ranking=fused_lists(), logits=LOGITS, weight=st.floats(0, 0.5, exclude_max=True))
def test_no_cross_encoder_moves_a_poor_document_over_the_best_by_fusion(
    ranking: list[Fused], logits: list[float], weight: float
) -> None:
    final = [b.fused for b in blend(ranking, logits[: len(ranking)], weight)]

    best, low = ranking[0], ranking[-1].score
    span = best.score - low
    passed_it = final[: final.index(best)]
    for fused in passed_it:
        # Equal scores are all brought to 1.
        brought_to_unit = (fused.score - low) / span if span else 1
        assert brought_to_unit > 1 - weight / (1 - weight) - 1e-9


@given(ranking=fused_lists(), weight=st.floats(0, 0.49))
def test_no_cross_encoder_makes_the_last_by_fusion_the_first(
    ranking: list[Fused], weight: float
) -> None:
    against = [-9.0] * (len(ranking) - 1) + [9.0]

    final = blend(ranking, against, weight)

    if ranking[0].score > ranking[-1].score:
        assert final[0].fused.score > ranking[-1].score


def test_from_a_weight_of_one_half_on_the_cross_encoder_alone_may_decide() -> None:
    ranking = [Fused(f"d{n}", 0, 1 / n, n, {}) for n in (1, 2, 3, 4)]

    final = blend(ranking, [-9.0, 0.0, 0.0, 9.0], 0.51)

    assert [b.fused.id for b in final] == ["d4", "d1", "d2", "d3"]
    assert [b.score for b in final[:2]] == pytest.approx([0.49 * 0 + 0.51 * 1, 0.49 * 1 + 0.51 * 0])
