"""Load: arrivals, mixes, histograms, the search for capacity, the page."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import BadEnvironment
from deploy.load.arrivals import plan_arrivals
from deploy.load.capacity import Bounds, Outcome, capacity, next_rate
from deploy.load.page import as_html
from deploy.load.queries import read_queries
from deploy.load.report import summarise
from deploy.load.scenario import Shape, draw, mix, read_shapes
from deploy.load.sender import note_reply
from deploy.load.tally import Histogram, Tally
from trireme.v1 import error_reason_pb2, search_pb2

BOUNDS = Bounds(p99_ms=100.0, failures=0.01)


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert plan_arrivals(4.0, 1.0, seed=0, kind="constant").tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["poisson", "constant"])
def test_arrivals_are_as_many_as_the_rate_says(kind: str) -> None:
    moments = plan_arrivals(200.0, 50.0, seed=3, kind=kind)

    assert abs(len(moments) - 10_000) < 4 * 10_000**0.5
    assert (np.diff(moments) > 0).all()
    assert 0 <= moments[0] < moments[-1] < 50


def test_poisson_gaps_are_as_irregular_as_they_are_long() -> None:
    gaps = np.diff(plan_arrivals(100.0, 100.0, seed=5))

    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)


def test_the_same_seed_gives_the_same_load() -> None:
    shapes = (Shape("a", weight=1), Shape("b", weight=3))

    assert plan_arrivals(50, 5, seed=1).tolist() == plan_arrivals(50, 5, seed=1).tolist()
    assert draw(shapes, 100, seed=1).tolist() == draw(shapes, 100, seed=1).tolist()


def test_shapes_come_by_their_weights() -> None:
    drawn = draw((Shape("often", weight=3), Shape("rarely", weight=1)), 10_000, seed=0)

    assert (drawn == 0).mean() == pytest.approx(3 / 4, abs=0.02)


def test_a_scenario_is_read_from_yaml_or_json(tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [
        {"name": "browse", "weight": 3, "mode": "lexical", "top": 20, "filter": "year >= 2020"},
        {"name": "ask", "rerank": True, "depth": 30, "priority": "batch"},
    ]
    path = tmp_path / "mix.json"
    path.write_text(json.dumps({"shapes": shapes}))

    browse, ask = read_shapes(path)

    request = browse.request("books", "sea")
    assert (request.query, request.page_size, request.filter) == ("sea", 20, "year >= 2020")
    assert request.mode == search_pb2.SEARCH_MODE_LEXICAL
    assert not request.rerank.HasField("enabled")
    assert ask.request("books", "sea").rerank.depth == 30
    assert (browse.metadata, ask.metadata) == ((), (("trireme-priority", "batch"),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shapes: [{name: a, mode: telepathic}]", r"shapes\[0\].mode"),
        ("shapes: [{name: a, weight: 0}]", r"shapes\[0\].weight: must be above 0"),
        ("shapes: [{name: a, top: many}]", r"shapes\[0\].top: must be int"),
        ("shapes: [{name: a, top: true}]", r"shapes\[0\].top: must be int"),
        ("shapes: [{name: a, colour: red}]", r"shapes\[0\].colour: is not known"),
        ("shapes: [{mode: dense}]", r"shapes\[0\]: has no name"),
        ("shapes: [{name: a}, {name: a}]", "two shapes one name"),
        ("shapes: []", "is no scenario"),
        ("[1, 2", "cannot be read"),
    ],
)
def test_a_bad_scenario_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(text)

    with pytest.raises(BadEnvironment, match=said):
        read_shapes(path)


def test_the_scenario_of_the_guide_is_one(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "load.md"
    (block,) = re.findall(r"^```yaml\n(.*?)^```", guide.read_text(), re.M | re.S)
    (tmp_path / "mix.yaml").write_text(block)

    assert read_shapes(tmp_path / "mix.yaml")[0].name == "ask"


def test_modes_share_what_else_was_asked_for() -> None:
    base = Shape("hybrid", top=5, filter="x = 1")

    assert mix(base, ()) == (base,)
    lexical, dense = mix(base, [("lexical", 2.0), ("dense", 1.0)])
    assert (lexical.mode, lexical.weight, lexical.top, lexical.filter) == ("lexical", 2, 5, "x = 1")
    assert dense.name == "dense"


def test_queries_come_from_lines_json_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("one\n\n two \n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "three"}\n')

    assert read_queries(tmp_path / "plain.txt") == ("one", "two")
    assert read_queries(tmp_path / "queries.jsonl") == read_queries(tmp_path) == ("three",)


def test_files_without_queries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "other.jsonl").write_text('{"question": "?"}\n')

    for path in (tmp_path / "empty.txt", tmp_path / "other.jsonl", tmp_path / "missing"):
        with pytest.raises(BadEnvironment, match=path.name):
            read_queries(path)


def test_a_histogram_keeps_three_digits_and_survives_another_process() -> None:
    one, two = Histogram(), Histogram()
    for milliseconds in range(1, 1001):
        (one if milliseconds % 2 else two).record(milliseconds / 1000)

    one.add(pickle.loads(pickle.dumps(two)))

    assert len(one) == 1000
    for share in (50, 90, 99, 100):
        assert one.percentile(share) == pytest.approx(10 * share, rel=1e-3)
    assert one.mean == pytest.approx(1001 / 2, rel=1e-3)


def test_a_histogram_of_nothing_has_no_percentiles() -> None:
    histogram = Histogram()

    assert (histogram.percentile(99), histogram.mean, histogram.longest) == (None, None, None)


def test_stages_and_shortfalls_of_replies_are_counted() -> None:
    tally = Tally()
    reply = search_pb2.SearchResponse(
        timings=[
            search_pb2.StageTiming(
                stage=search_pb2.STAGE_RERANK,
                start_microseconds=4000,
                microseconds=2000,
                inner_microseconds=1500,
            )
        ],
        degraded=[
            search_pb2.Degradation(
                stage=search_pb2.STAGE_DENSE,
                reason=error_reason_pb2.ERROR_REASON_SHARD_UNAVAILABLE,
            )
        ],
    )

    note_reply(reply, tally)
    note_reply(search_pb2.SearchResponse(), tally)
    report = summarise(tally, rate=1.0, seconds=1.0)

    assert report["degraded"] == 1
    assert report["degradations"] == {"dense: SHARD_UNAVAILABLE": 1}
    assert report["stages"]["rerank"]["p50_ms"] == pytest.approx(2.0, rel=1e-3)
    assert report["stages"]["rerank"]["start_p50_ms"] == pytest.approx(4.0, rel=1e-3)
    assert report["stages"]["rerank"]["inner_p50_ms"] == pytest.approx(1.5, rel=1e-3)


def test_processes_add_up() -> None:
    one, two = _tally([0.010, 0.020]), _tally([0.030], late=0.5)

    report = summarise(one.add(two), rate=3.0, seconds=1.0, processes=2)

    assert (report["sent"], report["answered"], report["failed"]) == (5, 3, {"OVERLOADED": 2})
    assert report["max_ms"] == pytest.approx(30, rel=1e-3)
    assert report["generator"]["was_late"]


def test_a_percentile_is_told_only_where_a_query_lies_beyond() -> None:
    curve = summarise(_tally([0.001] * 100), rate=100, seconds=1)["percentiles_ms"]

    assert list(curve)[-1] == "99"


def _server(capacity_: float) -> Callable[[float], Outcome]:
    """Latency grows as a queue does, and beyond capacity queries fail."""

    def outcome(rate: float) -> Outcome:
        if rate >= capacity_:
            return Outcome(rate, 5000.0, 1 - capacity_ / rate, "OVERLOADED")
        return Outcome(rate, 10 / (1 - rate / capacity_), 0.0)

    return outcome


@pytest.mark.parametrize("real", [0.7, 9.0, 50.0, 730.0])
@pytest.mark.parametrize("first", [1.0, 10.0, 400.0])
def test_capacity_is_found_from_below_and_from_above(real: float, first: float) -> None:
    outcomes: list[Outcome] = []
    rate: float | None = first
    while rate is not None:
        outcomes.append(_server(real)(rate))
        rate = next_rate(outcomes, BOUNDS, growth=1.5, most=10_000)

    # The p99 of 100 ms is reached at 10 / (1 - x) = 100.
    within = real * 0.9
    found = capacity(outcomes, BOUNDS)

    assert within / 1.1 <= found.rate <= within
    assert "p99 was" in found.stopped_because or "failed (OVERLOADED)" in found.stopped_because
    assert len(outcomes) < 25


def test_the_search_ends_at_the_greatest_rate() -> None:
    outcomes = [_server(1e9)(10.0)]

    assert next_rate(outcomes, BOUNDS, growth=4.0, most=25.0) == 25.0
    outcomes.append(_server(1e9)(25.0))
    assert next_rate(outcomes, BOUNDS, growth=4.0, most=25.0) is None
    assert capacity(outcomes, BOUNDS).rate == 25.0


def test_a_late_generator_is_named_as_a_reason() -> None:
    outcomes = [Outcome(10, 50, 0), Outcome(15, 900, 0, late=True)]

    assert "the generator itself was late" in capacity(outcomes, BOUNDS).stopped_because


def test_a_server_that_answers_nothing_has_no_capacity() -> None:
    outcomes = [Outcome(10.0, None, 1.0, "UNAVAILABLE")]

    while (rate := next_rate(outcomes, BOUNDS, growth=1.5, most=100)) is not None:
        outcomes.append(Outcome(rate, None, 1.0, "UNAVAILABLE"))

    assert capacity(outcomes, BOUNDS).rate == 0


def test_the_page_stands_alone_and_says_what_was_measured() -> None:
    steps = [
        summarise(_tally([0.010 * n for n in range(1, 200)]), rate=rate, seconds=1.0)
        for rate in (10.0, 15.0)
    ]
    report = {
        "capacity_per_second": 10.0,
        "stopped_because": "p99 was <too> long",
        "bounds": {"p99_ms": 500.0, "failures": 0.01},
        "steps": steps,
    }

    html = as_html(report, collection="a&b", shapes=(Shape("hybrid"),))

    assert html.count("<svg") == 3
    assert "Load on a&amp;b" in html
    assert "p99 was &lt;too&gt; long" in html
    assert "OVERLOADED" in html
    assert not any(word in html for word in ("http://", "https://", "<script", "src=", "nan"))


def test_a_page_of_nothing_but_failures_can_be_drawn() -> None:
    report = summarise(_tally([]), rate=5.0, seconds=1.0)

    html = as_html(report, collection="down", shapes=(Shape("hybrid"),))

    assert "OVERLOADED" in html
    assert "<svg" not in html


def _tally(seconds: list[float], late: float = 0.0) -> Tally:
    """Answers after so long, each with one stage, and one refusal."""
    tally = Tally()
    for taken in seconds:
        tally.answered.record(taken)
        tally.shapes["hybrid"].record(taken)
        tally.late.record(late)
        tally.stages["encode"].record(taken / 2)
        tally.starts["encode"].record(0.001)
    tally.failed["OVERLOADED"].record(0.002)
    return tally
