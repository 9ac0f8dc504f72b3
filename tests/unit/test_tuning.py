"""Choosing settings: what is tried, what wins, and what is recommended."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

ir_measures = pytest.importorskip("ir_measures", reason="measuring needs the extra `local`")

from core.errors import BadEnvironment  # noqa: E402
from deploy.evaluation.candidates import Candidates  # noqa: E402
from deploy.evaluation.evaluation import Measured  # noqa: E402
from deploy.evaluation.latency import Latency  # noqa: E402
from deploy.evaluation.measures import MAIN  # noqa: E402
from deploy.evaluation.runs import Run  # noqa: E402
from deploy.evaluation.space import Space, fusion_settings  # noqa: E402
from deploy.evaluation.systems import parse  # noqa: E402
from deploy.evaluation.tuning import Tried, try_all  # noqa: E402
from deploy.evaluation.tuning_report import Tuning, as_html  # noqa: E402
from deploy.evaluation.verdict import choose, judge, pareto, split  # noqa: E402
from gateway.fusion import Candidate, FusionSettings, Ranking  # noqa: E402
from trireme.v1 import search_pb2  # noqa: E402

LEGS = ("dense", "lexical")
JUDGED = {"q": {"good": 1}}
SMALL = Space(
    windows=(1, 2), ks=(60.0,), scores=(), weights=(0.5, 1.0), depths=(1, 2), blends=(0.3, 1.0)
)


def ranking(*ids: str) -> Ranking:
    return Ranking.of(Candidate(id, 1 - rank / 10, 0) for rank, id in enumerate(ids))


def quality(tried: Sequence[Tried], name: str) -> float:
    return next(each.quality for each in tried if each.system.name == name)


def test_every_setting_can_be_asked_for_by_its_name() -> None:
    space = Space()
    fusions = list(space.fusions(LEGS))
    settings = [*fusions, *space.rerankings(fusions[0])]

    assert [parse(system.name) for system in settings] == settings
    # Windows, pairs of weights of which the greatest is 1, four k and three other methods.
    assert len(fusions) == 3 * (5 * 5 - 4 * 4) * (4 + 3)
    assert len(settings) - len(fusions) == 4 * 7
    assert len(list(space.fusions((*LEGS, "sparse")))) == 3 * (3**3 - 2**3) * (4 + 3)
    assert len(list(Space.coarse().fusions(LEGS))) == 1 * (3 * 3 - 2 * 2) * (2 + 3)


def test_the_gateway_fuses_with_the_setting_s_numbers() -> None:
    system = parse("rrf:k=20:dense=1:lexical=0.5:window=50")

    assert fusion_settings(system) == FusionSettings(
        method="rrf", k=20, dense_weight=1, lexical_weight=0.5
    )


def test_settings_are_tried_with_their_window_weights_depth_and_blend() -> None:
    legs = {"dense": ranking("bad", "good"), "lexical": ranking("worse", "bad")}
    found = {"q": Candidates(legs, {"bad": -1.0, "worse": -3.0, "good": 5.0})}

    tried = try_all(SMALL, found, JUDGED, LEGS, lambda: None)

    second, third = 1 / math.log2(3), 1 / math.log2(4)
    # Both legs have `bad`, then come 1 / 61 for `worse` and 1 / 62 for `good`.
    assert quality(tried, "rrf:k=60:dense=1:lexical=1:window=2") == pytest.approx(third)
    # Half a weight for the leg of `worse`: 1 / 62 for `good` is more.
    assert quality(tried, "rrf:k=60:dense=1:lexical=0.5:window=2") == pytest.approx(second)
    # A window of one: `good` is not there.
    assert quality(tried, "rrf:k=60:dense=1:lexical=0.5:window=1") == 0
    # The head of two is turned round by the reranker alone, not by a share of .3.
    half = "rrf:k=60:dense=1:lexical=0.5:window=2:depth=2:blend="
    assert quality(tried, half + "1") == pytest.approx(1)
    assert quality(tried, half + "0.3") == pytest.approx(second)
    assert quality(tried, half.replace("depth=2", "depth=1") + "1") == pytest.approx(second)
    assert len(tried) == 2 * 3 * (1 + 2 * 2)


def test_the_head_ends_before_a_document_that_was_not_reranked() -> None:
    legs = {"dense": ranking("bad", "new", "good"), "lexical": ranking("bad", "new", "good")}
    found = {"q": Candidates(legs, {"bad": -1.0, "good": 5.0})}
    space = Space(windows=(3,), ks=(60.0,), scores=(), weights=(1.0,), depths=(3,), blends=(1.0,))

    tried = try_all(space, found, JUDGED, LEGS, lambda: None)

    name = "rrf:k=60:dense=1:lexical=1:window=3:depth=3:blend=1"
    assert quality(tried, name) == pytest.approx(1 / math.log2(4))


def test_the_front_holds_what_none_beats_in_both() -> None:
    tried = [
        Tried(parse("rrf:window=50"), 0.5),
        Tried(parse("z-score:window=50"), 0.6),
        Tried(parse("rrf:window=100"), 0.55),
        Tried(parse("rrf:window=50:depth=10:blend=.3"), 0.7),
        Tried(parse("rrf:window=50:depth=20:blend=.3"), 0.7),
    ]
    latencies = {
        (50, 0): Latency(10, 20),
        (100, 0): Latency(11, 22),
        (50, 10): Latency(80, 100),
        (50, 20): Latency(160, 200),
    }

    front = pareto(tried, latencies)

    assert [each.tried.system.name for each in front] == [
        "z-score:window=50",
        "rrf:window=50:depth=10:blend=.3",
    ]
    assert choose(front, 100) == front[1]
    assert choose(front, 99) == front[0]
    assert choose(front, 19) is None


def test_queries_are_split_by_their_ids_alone() -> None:
    queries = [f"q{number}" for number in range(200)]

    tuning, held_back = split(queries)

    assert sorted(tuning + held_back) == sorted(queries)
    assert set(split(queries[::-1])[1]) == set(held_back)
    # Binomial: 100 with a deviation of 7.
    assert 75 < len(held_back) < 125


def test_too_few_queries_support_nothing() -> None:
    with pytest.raises(BadEnvironment, match="could not support any recommendation"):
        split([f"q{number}" for number in range(20)])


def real(name: str, values: Sequence[float], *, window: int = 100, ms: float = 50) -> Measured:
    run = Run(parse(name))
    for number in range(len(values)):
        run.add(f"q{number}", search_pb2.SearchResponse(window=window), ms)
    return Measured(run, {MAIN: values})


SOME = [0.4, 0.5, 0.6, 0.7] * 10
MORE = [value + 0.1 for value in SOME]


def test_a_gain_on_held_back_queries_is_recommended() -> None:
    verdict = judge(real("default", SOME), real("z-score", MORE, window=50), budget_ms=60)

    assert verdict.recommended
    assert verdict.gain is not None
    assert verdict.gain.mean == pytest.approx(0.1)
    assert "+0.1000 nDCG@10 on 40 held-back queries" in verdict.reason


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        (real("z-score", [value - 0.1 for value in SOME], window=50), "does not win here"),
        (real("z-score", [*SOME[:-1], 1.0], window=50), "may be luck"),
        (real("z-score", MORE, window=50, ms=70), "over the budget with 70 ms"),
        (real("z-score", SOME), "the current settings are the best"),
    ],
)
def test_what_no_test_supports_is_not_recommended(chosen: Measured, reason: str) -> None:
    verdict = judge(real("default", SOME), chosen, budget_ms=60)

    assert not verdict.recommended
    assert reason in verdict.reason


def test_only_queries_that_both_settings_answered_in_full_are_compared() -> None:
    current, chosen = real("default", SOME), real("z-score", [0.0, *MORE[1:]], window=50)
    chosen.run.fell_short.add("q0")

    verdict = judge(current, chosen, budget_ms=60)
    current.run.fell_short |= {f"q{number}" for number in range(21)}
    unsure = judge(current, chosen, budget_ms=60)

    assert verdict.recommended
    assert verdict.gain is not None
    assert verdict.gain.mean == pytest.approx(0.1)
    assert not unsure.recommended
    assert unsure.reason.startswith("only 19 held-back queries were answered in full")


def test_a_report_says_so_when_nothing_keeps_to_the_budget() -> None:
    tried = [Tried(parse("rrf:window=50"), 0.5)]
    current = real("default", SOME, ms=30)
    current.run.fell_short |= {"q1", "q7"}
    tuning = Tuning(
        dataset="ships",
        collection="fleet",
        tuning_queries=40,
        left_out=3,
        tried=tried,
        front=pareto(tried, {(50, 0): Latency(10, 20)}),
        chosen=None,
        held_back=[current],
        budget_ms=15,
        command="trireme tune ships",
        date="2026-01-01 00:00 UTC",
    )

    page = as_html(tuning)

    assert tuning.summary() == [
        "keep what you have: nothing answers within 15 ms at p95",
        "the current settings take 30 ms at p95, over the budget of 15 ms; the table shows what "
        "keeps to it",
        "tuning queries left out, not being answered in full: 3",
        "answers to held-back queries that fell short: 2; their queries do not count in the "
        "comparison",
    ]
    assert tuning.as_dict()["recommended"] is False
    assert tuning.as_dict()["gain"] is None
    assert "nothing answers within 15 ms" in page
    assert "rrf:window=50" in page
