"""Measuring search: measures, the bootstrap, the names of systems, comparisons and their report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

ir_measures = pytest.importorskip("ir_measures", reason="measuring needs the extra `local`")

from core.bootstrap import interval, paired_bootstrap  # noqa: E402
from core.errors import BadEnvironment, InvalidInput  # noqa: E402
from deploy.evaluation import charts  # noqa: E402
from deploy.evaluation.charts import Point  # noqa: E402
from deploy.evaluation.evaluation import (  # noqa: E402
    Evaluation,
    Measured,
    compare,
    compare_with,
    headline,
    measure,
)
from deploy.evaluation.measures import MAIN, MeanNdcg, Quality  # noqa: E402
from deploy.evaluation.report import as_html  # noqa: E402
from deploy.evaluation.runs import Run  # noqa: E402
from deploy.evaluation.summary import as_markdown, gain_over_legs, read_reports  # noqa: E402
from deploy.evaluation.systems import ablation, parse, parse_systems  # noqa: E402
from trireme.v1 import ranking_pb2, search_pb2  # noqa: E402

JUDGED = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}}


def test_measures_are_those_of_trec_eval() -> None:
    figures = Quality(JUDGED, recall_at=2).per_query({"q1": ["b", "x", "a"], "q2": ["x", "c"]})

    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    found = 1 / math.log2(2) + 2 / math.log2(4)
    assert figures["ndcg@10"] == pytest.approx([found / ideal, 1 / math.log2(3)])
    assert figures["mrr@10"] == pytest.approx([1, 1 / 2])
    assert figures["map"] == pytest.approx([(1 / 1 + 2 / 3) / 2, 1 / 2])
    assert figures["recall@2"] == pytest.approx([1 / 2, 1])


def test_a_query_without_an_answer_counts_nothing_found() -> None:
    figures = Quality(JUDGED).per_query({"q2": ["c"]})

    assert figures[MAIN] == [0, 1]
    assert figures["recall@100"] == [0, 1]
    assert MeanNdcg(JUDGED).of({"q2": ["c"]}) == pytest.approx((0 + 1) / 2)
    assert MeanNdcg(JUDGED).of({"q1": [*"0123456789", "a"], "q2": ["c"]}) == pytest.approx(1 / 2)


def test_the_bootstrap_tells_a_sure_gain_from_none() -> None:
    before = [0.2 + 0.01 * number for number in range(50)]
    after = [value + 0.1 for value in before]

    sure = paired_bootstrap((before, after))
    mixed = paired_bootstrap((before, after), (before, [value - 0.1 for value in before]))
    same = paired_bootstrap((before, before))

    assert (sure.mean, sure.low, sure.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (sure.p, sure.two_sided_p) == (0, 0)
    assert mixed.mean == pytest.approx(0)
    assert (same.mean, same.two_sided_p) == (0, 1)


def test_the_bootstrap_agrees_with_all_resamples_of_three_queries() -> None:
    differences = [-0.1, 0.0, 0.4]
    means = [sum(drawn) / 3 for drawn in product(differences, repeat=3)]
    no_gain = sum(mean <= 0 for mean in means) / len(means)

    found = paired_bootstrap(([0.5, 0.5, 0.5], [0.5 + each for each in differences]))

    # Ten thousand draws: a standard error of .0046 at most.
    assert found.mean == pytest.approx(0.1)
    assert found.p == pytest.approx(no_gain, abs=0.02)
    assert found.two_sided_p == pytest.approx(2 * no_gain, abs=0.04)


def test_turning_a_comparison_round_turns_its_figures_round() -> None:
    before, after = [0.1, 0.5, 0.9, 0.4], [0.2, 0.4, 1.0, 0.9]

    there, back = paired_bootstrap((before, after)), paired_bootstrap((after, before))

    assert back.mean == pytest.approx(-there.mean)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.two_sided_p == pytest.approx(there.two_sided_p)


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = [float(number % 2) for number in range(400)]

    low, high = interval(values)

    # The mean is 1/2 and the deviation of one value too: 1.96 standard errors to each side.
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.5 / 20, 0.5 + 1.96 * 0.5 / 20), abs=0.003)


def test_a_system_is_read_from_its_name() -> None:
    system = parse("rrf:k=20:lexical=.5:window=50:depth=10:blend=.3")
    request = system.request("ships", "oars", page_size=100)

    assert request.fusion.method == ranking_pb2.FUSION_METHOD_RRF
    assert (request.fusion.k, request.fusion.lexical_weight) == (20, 0.5)
    assert not request.fusion.HasField("dense_weight")
    assert (request.rerank.enabled, request.rerank.depth, request.rerank.weight) == (True, 10, 0.3)
    # A page may not be longer than the window.
    assert (request.window, request.page_size) == (50, 50)


@pytest.mark.parametrize(
    ("name", "mode", "legs", "rerank"),
    [
        ("hybrid", search_pb2.SEARCH_MODE_UNSPECIFIED, [], False),
        ("rerank", search_pb2.SEARCH_MODE_UNSPECIFIED, [], True),
        ("default", search_pb2.SEARCH_MODE_UNSPECIFIED, [], None),
        (
            "lexical+sparse",
            search_pb2.SEARCH_MODE_UNSPECIFIED,
            [search_pb2.SEARCH_LEG_LEXICAL, search_pb2.SEARCH_LEG_SPARSE],
            False,
        ),
    ],
)
def test_a_system_asks_for_no_more_than_its_name_says(
    name: str, mode: int, legs: Sequence[int], rerank: bool | None
) -> None:
    request = parse(name).request("ships", "oars", page_size=10)

    assert (request.mode, list(request.legs)) == (mode, legs)
    assert request.rerank.HasField("enabled") == (rerank is not None)
    assert request.rerank.enabled == bool(rerank)
    assert request.fusion == ranking_pb2.Fusion()


def test_one_leg_keeps_its_order_whatever_weight_the_collection_gives_it() -> None:
    request = parse("lexical").request("ships", "oars", page_size=10)

    assert request.mode == search_pb2.SEARCH_MODE_LEXICAL
    assert request.fusion.HasField("lexical_weight")
    assert request.fusion.lexical_weight == 1
    assert request.rerank == ranking_pb2.Rerank(enabled=False)


def test_all_systems_are_every_leg_every_set_of_legs_every_fusion_and_depth() -> None:
    assert ablation(("dense", "lexical"))[:3] == ["dense", "lexical", "hybrid"]
    names = [
        system.name for system in parse_systems("all,dense", legs=("dense", "lexical", "sparse"))
    ]
    assert names[:7] == [
        "dense",
        "lexical",
        "sparse",
        "dense+lexical",
        "dense+sparse",
        "lexical+sparse",
        "hybrid",
    ]
    assert names[7:] == [
        "rrf",
        "min-max",
        "z-score",
        "distribution",
        "rerank@5",
        "rerank@10",
        "rerank@20",
        "rerank@50",
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("dence", "dence: is not a system; use dense, lexical, sparse, hybrid"),
        ("dense+dense", "is not a system"),
        ("hybrid@5", "only rerank takes @DEPTH"),
        ("rerank@0", "rerank@0: depth: is '0'; give a whole number from 1 to 200"),
        ("rrf:k", "rrf:k: k: is ''; give a number from 1 to 10000"),
        ("rrf:window=2.5", "is '2.5'; give a whole number from 1 to 1000"),
        ("rrf:depht=3", "'depht' is not a setting; use k, dense, lexical"),
        (" , ", "--systems: is empty"),
    ],
)
def test_a_system_that_is_not_known_is_refused(name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(problem)):
        parse_systems(name, legs=("dense", "lexical"))


def run(name: str, **rankings: Sequence[str]) -> Run:
    found = Run(parse(name))
    for query, ids in rankings.items():
        hits = [search_pb2.Hit(document={"id": id}) for id in ids]  # type: ignore[arg-type]
        found.add(query, search_pb2.SearchResponse(hits=hits, window=100), milliseconds=10)
    return found


def measured() -> list[Measured]:
    runs = [
        run("dense", q1=["x", "a"], q2=["x"]),
        run("lexical", q1=["a"], q2=["x"]),
        run("hybrid", q1=["a", "b"], q2=["c"]),
        run("rerank@5", q1=["a", "b"], q2=["c"]),
        run("rerank@10", q1=["a"], q2=["c"]),
    ]
    return measure(runs, JUDGED, recall_at=100)


def test_pairs_are_compared_over_the_same_queries() -> None:
    systems = measured()

    (asked,) = compare(systems, [("lexical", "hybrid")])

    ideal = 2 + 1 / math.log2(3)
    assert asked.difference.mean == pytest.approx(((1 - 2 / ideal) + 1) / 2)
    assert asked.as_dict()["p"] == asked.difference.two_sided_p == 0
    assert len(compare(systems, [])) == 5 * 4 / 2


def test_a_run_is_compared_with_an_earlier_report() -> None:
    systems = measured()
    earlier = {"systems": {"hybrid": {"per_query": {"q2": 0.25, "gone": 1.0}}}}

    (change,) = compare_with(earlier, systems)

    assert (change.before, change.after) == ("hybrid before", "hybrid")
    assert change.difference.mean == pytest.approx(1 - 0.25)
    with pytest.raises(InvalidInput, match="no system and query in common"):
        compare_with({"systems": {}}, systems)


def test_the_best_leg_and_the_best_of_the_others_stand_in_the_headline() -> None:
    systems = measured()

    assert headline(systems, []) == ("lexical", "hybrid")
    assert headline(systems, [("dense", "rerank@5")]) == ("dense", "rerank@5")
    assert headline(systems[:2], []) is None


def test_the_report_is_one_page_that_needs_nothing_else() -> None:
    systems = measured()
    evaluation = Evaluation(
        dataset="ships & oars",
        split="test",
        documents=3,
        queries={"q1": "is a < b?", "q2": "oars"},
        systems=systems,
        comparisons=compare(systems, []),
        command="trireme eval ships",
        date="2026-01-01 00:00 UTC",
    )

    page = as_html(evaluation, ("lexical", "hybrid"))

    assert "<title>Search quality on ships &amp; oars, test</title>" in page
    assert "is a &lt; b?" in page
    assert "Quality against rerank depth" in page
    assert "2 won, 0 lost, 0 the same." in page
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)
    assert "nan" not in page
    assert [each["after"] for each in evaluation.as_dict()["comparisons"]][-1] == "rerank@10"


def test_bars_are_as_long_as_their_values() -> None:
    drawn = charts.bars(
        [Point("half", 0.4, 0.3, 0.5), Point("whole", 0.8, 0.7, 0.9)], axis="nDCG", best="whole"
    )

    half, whole = (float(each) for each in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn))
    assert whole == pytest.approx(2 * half, abs=0.2)
    assert 'class="bar best"' in drawn


def test_ticks_are_round_numbers() -> None:
    drawn = charts.curve(
        [Point("", 0.012, 0.0, 0.02, x=0), Point("", 0.027, 0.01, 0.04, x=20)],
        x_axis="documents",
        y_axis="nDCG",
    )
    near = charts.scatter(
        [Point("a", 0.5, x=140), Point("b", 0.501, x=150)], x_axis="ms", y_axis="nDCG", marked=[]
    )

    assert re.findall(r'class="tick end"[^>]*>([-\d.]+)<', drawn) == [
        "0",
        "0.01",
        "0.02",
        "0.03",
        "0.04",
    ]
    # No 1, 2 or 5 lies between 112 and 188 ms: the ticks are then as on a plain axis.
    assert re.findall(r'class="tick middle"[^>]*>(\d+)<', near) == ["120", "140", "160", "180"]


def test_several_reports_become_one_table(tmp_path: Path) -> None:
    files = []
    for name, dense, fused in (("one", [0.2, 0.4], [0.4, 0.8]), ("two", [0.5], [0.3])):
        systems = {
            system: {
                "ndcg@10": sum(values) / len(values),
                "recall@100": 1.0,
                "per_query": {f"q{number}": value for number, value in enumerate(values)},
            }
            for system, values in (("dense", dense), ("rrf", fused))
        }
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"dataset": name, "queries": len(dense), "systems": systems}))
        files.append(file)

    reports = read_reports(files)
    ((leg, system, gain),) = gain_over_legs(reports)

    assert as_markdown(reports).splitlines() == [
        "| system | one (2) | two (1) | mean |",
        "| --- | --- | --- | --- |",
        "| dense | .300 / 1.000 | .500 / 1.000 | .400 / 1.000 |",
        "| rrf | .600 / 1.000 | .300 / 1.000 | .450 / 1.000 |",
    ]
    assert (leg, system) == ("dense", "rrf")
    assert gain.mean == pytest.approx(((0.2 + 0.4) / 2 - 0.2) / 2)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BadEnvironment, match=r"other.json: is not a report"):
        read_reports([tmp_path / "other.json"])
