"""The diary of a query."""

import pytest

from gateway.query import Degradation
from gateway.trace import Trace


def test_shortfalls_of_one_stage_and_reason_become_one() -> None:
    diary = Trace()

    diary.degrade([Degradation("dense", "SHARD_UNAVAILABLE", "shard 1 is gone", (1,))])
    diary.degrade([Degradation("dense", "SHARD_UNAVAILABLE", "shard 0 is gone", (0,))])

    assert diary.degraded == [
        Degradation("dense", "SHARD_UNAVAILABLE", "shard 1 is gone; shard 0 is gone", (0, 1))
    ]


def test_shortfalls_stand_in_the_order_of_the_stages() -> None:
    diary = Trace()

    diary.degrade([Degradation("rerank", "OUT_OF_TIME", ""), Degradation("encode", "X", "")])

    assert [d.stage for d in diary.degraded] == ["encode", "rerank"]


def test_the_diary_of_a_part_is_taken_over() -> None:
    diary, part = Trace(), Trace()
    with diary.stage("lexical"):
        pass
    with part.stage("dense") as span:
        span.inner_microseconds = 7
    part.degrade([Degradation("dense", "OUT_OF_TIME", "late", (1,))])

    diary.include(part)

    first, second = diary.timings
    assert (first.stage, second.stage, second.inner_microseconds) == ("lexical", "dense", 7)
    assert first.start_microseconds <= second.start_microseconds <= diary.elapsed_microseconds()
    assert diary.degraded == [Degradation("dense", "OUT_OF_TIME", "late", (1,))]


def test_a_stage_that_fails_is_timed_all_the_same() -> None:
    diary = Trace()

    def fail() -> None:
        with diary.stage("encode") as span:
            span.inner_microseconds = 7
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    (timing,) = diary.timings
    assert (timing.stage, timing.inner_microseconds) == ("encode", 7)
