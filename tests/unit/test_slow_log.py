"""A slow search is told in the log with what explains it, and without what was searched for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.fusion import FusionSettings
from gateway.metrics import GatewayMetrics
from gateway.query import Answer, Degradation, RerankSettings, ShardAnswer, Timing
from gateway.slow_log import LINES_PER_SECOND, SlowLog

SECRET = "hemorrhoids near me"
ANSWER = Answer(
    hits=[],
    groups=[],
    degraded=[Degradation("rerank", "OUT_OF_TIME", f"{SECRET} took long", (1,))],
    timings=[Timing("encode", 100, 20_000, 15_000), Timing("rerank", 30_000, 900_000, 880_000)],
    total_microseconds=1_000_000,
    shards=[ShardAnswer(1, False, 1, 7, 9)],
    fusion=FusionSettings(),
    rerank=RerankSettings(enabled=True, depth=20, weight=0.3),
    reranked=12,
    window=100,
    coverage=1.0,
    candidate_count=42,
    encoder=None,
    sparse_encoder=None,
    reranker=None,
)


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


def slow(metrics: GatewayMetrics) -> float | None:
    return metrics.registry.get_sample_value("trireme_gateway_slow_searches_total")


def noted(
    slow_log: SlowLog, caplog: pytest.LogCaptureFixture, answers: Sequence[Answer]
) -> list[dict[str, object]]:
    """The fields of the lines that these answers lead to."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        for answer in answers:
            slow_log.note("papers", SECRET, answer)
    return [vars(record) for record in caplog.records]


def test_the_line_tells_where_the_time_went(
    metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = noted(SlowLog(0.5, metrics, with_text=False), caplog, [ANSWER])

    assert line["msg"] == "slow search"
    assert line["milliseconds"] == 1000.0
    told = "rerank took 900 of 1000 ms, 880 ms of it in the model or the index"
    assert line["explanation"] == told
    assert line["stages"] == [
        {"stage": "encode", "start": 0.1, "took": 20.0, "elsewhere": 15.0},
        {"stage": "rerank", "start": 30.0, "took": 900.0, "elsewhere": 880.0},
    ]
    assert line["degraded"] == [{"stage": "rerank", "reason": "OUT_OF_TIME", "shards": [1]}]
    assert (line["candidates"], line["reranked"], line["rerank_depth"]) == (42, 12, 20)
    assert slow(metrics) == 1


def test_what_was_searched_for_is_told_only_if_that_is_wanted(
    metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = noted(SlowLog(0.5, metrics, with_text=False), caplog, [ANSWER])
    assert SECRET not in str(line)
    assert line["query_characters"] == len(SECRET)

    (line,) = noted(SlowLog(0.5, metrics, with_text=True), caplog, [ANSWER])
    assert line["query"] == SECRET


def test_fast_searches_are_not_told_and_zero_tells_of_none(
    metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    fast = replace(ANSWER, total_microseconds=400_000)

    assert not noted(SlowLog(0.5, metrics, with_text=False), caplog, [fast])
    assert not noted(SlowLog(0.0, metrics, with_text=False), caplog, [ANSWER])
    assert slow(metrics) == 0


def test_when_everything_is_slow_few_lines_say_so(
    metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    slow_log = SlowLog(0.5, metrics, with_text=False, clock=clock)

    assert len(noted(slow_log, caplog, [ANSWER] * 100)) == 1
    clock.seconds += 1 / LINES_PER_SECOND
    (line,) = noted(slow_log, caplog, [ANSWER])

    assert line["lines_left_out"] == 99
    assert slow(metrics) == 101
