"""The verdict on a document follows from what each stage made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.documents import Position
from gateway import verdict
from gateway.candidates import Candidates
from gateway.fusion import Candidate, FusionSettings, Ranking, fuse
from gateway.groups import Memberships
from gateway.query import Degradation, Query, RerankSettings
from gateway.verdict import DEEPEST, LegOutcome, Verdict, judge

FUSION = FusionSettings()
RERANK = RerankSettings(enabled=True, depth=20, weight=0.7)


def query(**fields: Any) -> Query:
    values: dict[str, Any] = {
        "collection": "ships",
        "text": "rowed",
        "page_size": 2,
        "window": 10,
        "legs": frozenset(),
        "fusion": FUSION,
        "rerank": RERANK,
        "min_position": Position(),
        **fields,
    }
    return Query(**values)


def candidates(
    ids: str,
    *,
    logits: Sequence[float] = (),
    memberships: Memberships | None = None,
    left_out: str = "",
    degraded: Sequence[Degradation] = (),
    legs: Sequence[str] = ("dense",),
) -> Candidates:
    """One document per letter of `ids`, found by every leg in this order, all on shard 0."""
    rankings = {
        leg: Ranking.of(Candidate(id, 1 - n / 10, 0) for n, id in enumerate(ids)) for leg in legs
    }
    return Candidates(
        uid="uid-1",
        rankings=rankings,
        order=fuse(rankings, FUSION),
        fusion=FUSION,
        rerank=RERANK,
        window=10,
        shards=(),
        degraded=degraded,
        coverage=1.0,
        logits=logits,
        left_out=frozenset(left_out),
        memberships=memberships,
    )


def leg(name: str = "dense", rank: int = 0, score: float = 0.0, **fields: Any) -> LegOutcome:
    """A leg with a window of 10 that ends at 0.1 and has the document at `rank`."""
    values: dict[str, Any] = {
        "window": 10,
        "last_score": 0.1,
        "within_window": 0 < rank <= 10,
        "answered": True,
        "depth": 500,
        **fields,
    }
    return LegOutcome(name, rank, score, **values)


def judged(document_id: str, found: Candidates, *legs: LegOutcome, **fields: Any) -> Verdict:
    return judge(document_id, query(**fields), found, legs or (leg(rank=1),), 0)


def test_on_the_page_nothing_fell_out() -> None:
    found = judged("b", candidates("abcd"))

    assert (found.outcome, found.stage) == (verdict.RETURNED, "")
    assert found.message == (
        f"fusion put it at rank 2 with {1 / (60 + 2):.4g}, the cross-encoder did not read it, "
        "it ended at rank 2"
    )


def test_below_the_page_in_both_orders_fusion_decided() -> None:
    found = judged("d", candidates("abcd"))

    assert (found.outcome, found.stage) == (verdict.BELOW_PAGE, "fuse")
    assert f"the first page ends at rank 2 with {1 / (60 + 2):.4g}" in found.message
    assert found.message.endswith("it is on page 2")


def test_on_the_page_by_fusion_and_not_after_it_the_cross_encoder_decided() -> None:
    found = judged("a", candidates("abcd", logits=[-4.0, 2.0, 3.0]))

    assert (found.outcome, found.stage) == (verdict.RERANKED_AWAY, "rerank")
    assert "the cross-encoder gave it -4.00, it ended at rank 3" in found.message
    assert found.message.endswith("fusion alone would have shown it: reranking has weight 0.7")


def test_a_document_that_rose_but_not_far_enough_was_not_reranked_away() -> None:
    found = judged("d", candidates("abcde", logits=[3.0, 2.9, -4.0, 2.0]))

    assert (found.outcome, found.stage) == (verdict.BELOW_PAGE, "fuse")
    assert "ended at rank 3" in found.message


def test_behind_others_of_a_group_that_is_shown() -> None:
    groups = {"a": ["x"], "b": ["x"], "c": ["y"], "d": ["z"]}
    found = judged("b", candidates("abcd", memberships=groups), group_by="kind")

    assert (found.outcome, found.stage) == (verdict.GROUPED_AWAY, "group")
    assert "its group is number 1" in found.message
    assert found.message.endswith("ask for a group_size of 2 or more")


def test_shown_in_one_of_its_groups_is_shown() -> None:
    groups = {"a": ["x"], "b": ["x", "y"], "c": ["z"]}

    assert judged("b", candidates("abc", memberships=groups)).outcome == verdict.RETURNED


def test_in_a_group_below_the_page() -> None:
    groups = {"a": ["x"], "b": ["y"], "c": ["z"]}
    found = judged("c", candidates("abc", memberships=groups))

    assert found.outcome == verdict.BELOW_PAGE
    assert "its group is number 3, the first page ends with number 2" in found.message
    assert found.message.endswith("it is on page 2")


def test_a_group_that_the_cross_encoder_moved_off_the_page() -> None:
    groups = {"a": ["x"], "b": ["y"], "c": ["z"]}
    found = judged("a", candidates("abc", logits=[-4.0, 2.0, 3.0], memberships=groups))

    assert (found.outcome, found.stage) == (verdict.RERANKED_AWAY, "rerank")


def test_outside_of_all_windows_the_nearest_leg_is_named_with_what_would_help() -> None:
    found = judged("x", candidates("ab"), leg("dense", 431, 0.05), leg("lexical", 12, 0.09))

    assert (found.outcome, found.stage) == (verdict.NOT_A_CANDIDATE, "lexical")
    assert found.message == (
        "the dense leg has it at rank 431 with 0.05; its window of 10 ends at 0.1; "
        "the lexical leg has it at rank 12 with 0.09; its window of 10 ends at 0.1; "
        "ask for a window of 12 or more"
    )


def test_too_far_down_for_any_window() -> None:
    found = judged("x", candidates("ab"), leg("dense", 1_001))

    assert found.message.endswith("no window reaches that far, the longest is 1,000")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (leg("lexical"), "it holds none of the query's words"),
        (leg("sparse"), "it holds none of the query's weighted terms"),
        (leg("dense", depth=DEEPEST), "does not have it among its first 10,000"),
        (leg("dense", depth=0), "could not be looked up"),
    ],
)
def test_where_a_leg_has_nothing_the_reason_is_given(outcome: LegOutcome, words: str) -> None:
    found = judged("x", candidates("ab"), outcome)

    assert (found.outcome, found.stage) == (verdict.NOT_A_CANDIDATE, outcome.leg)
    assert words in found.message


def test_a_leg_that_answered_nowhere_may_be_the_reason() -> None:
    late = Degradation("encode", "OUT_OF_TIME", "the encoder was too slow")
    found = judged(
        "x",
        candidates("ab", degraded=[late], legs=["lexical"]),
        leg("dense", answered=False, depth=0),
        leg("lexical"),
    )

    assert (found.outcome, found.stage) == (verdict.LEG_MISSING, "encode")
    assert found.message == (
        "the dense leg did not answer: the encoder was too slow; the lexical leg does not have it: "
        "it holds none of the query's words"
    )


def test_a_leg_that_answered_elsewhere_but_not_on_the_document_s_shard() -> None:
    silent = Degradation("dense", "OUT_OF_TIME", "shard 0 did not answer in time", (0,))
    found = judged(
        "x",
        candidates("ab", degraded=[silent]),
        leg("dense", 3, answered=False, within_window=False),
    )

    assert (found.outcome, found.stage) == (verdict.SHARD_MISSING, "dense")
    assert "the dense leg has no answer of shard 0" in found.message


def test_a_silent_leg_that_has_it_below_the_window_anyway_is_not_the_reason() -> None:
    found = judged("x", candidates("ab"), leg("dense", 40, answered=False))

    assert found.outcome == verdict.NOT_A_CANDIDATE


def test_a_candidate_whose_shard_fell_silent_later() -> None:
    silent = Degradation("group", "OUT_OF_TIME", "shard 0 did not answer in time", (0,))
    found = judged("b", candidates("ab", left_out="b", degraded=[silent]))

    assert (found.outcome, found.stage) == (verdict.SHARD_MISSING, "group")
