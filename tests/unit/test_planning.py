"""How time is spent: pure decisions."""

import time

import pytest

from core.batching import TOKENS_PER_REQUEST
from core.deadline import Deadline
from core.errors import OutOfTime
from gateway.planning import (
    CALL_SECONDS,
    LEAST_CHUNK_TOKENS,
    LEAST_ROUND_TOKENS,
    Pace,
    is_worth_a_round,
    plan_chunks,
    plan_depth,
    share,
)


@pytest.mark.parametrize(
    ("tokens", "depth"),
    [(-5.0, 0), (0.0, 0), (99.0, 0), (100.0, 1), (249.0, 1), (250.0, 2), (10_000.0, 3)],
)
def test_depth_is_the_longest_head_that_fits(tokens: float, depth: int) -> None:
    # the head of so many documents has 100, 100 + 150 and 100 + 150 + 200 tokens
    assert plan_depth([100, 150, 200], tokens) == depth


def test_a_long_passage_ends_the_head_rather_than_being_skipped() -> None:
    assert plan_depth([100, 5000, 1], 1000) == 1


def test_chunks_are_the_head_in_its_order_without_gaps() -> None:
    counts = [40, 200, 90, 10, 500, 30, 600, 20]

    chunks = plan_chunks(counts, range(len(counts)))

    assert [n for chunk in chunks for n in range(len(counts))[chunk]] == list(range(len(counts)))
    assert all(sum(counts[c]) <= TOKENS_PER_REQUEST or c.stop - c.start == 1 for c in chunks)


def test_a_short_head_is_spread_over_the_instances_and_a_tiny_one_is_not() -> None:
    # two instances get 200 tokens each
    assert plan_chunks([50] * 8, range(8)) == [slice(0, 4), slice(4, 8)]
    assert plan_chunks([LEAST_CHUNK_TOKENS // 4] * 4, range(4)) == [slice(0, 4)]
    assert plan_chunks([50] * 8, range(0)) == []


def test_chunks_of_a_later_round_begin_where_it_does() -> None:
    assert plan_chunks([50] * 12, range(4, 12)) == [slice(4, 8), slice(8, 12)]


@pytest.mark.parametrize(
    ("depth", "wanted", "tokens", "first", "worth"),
    [
        (1, 100, 20.0, True, True),
        (0, 100, 20.0, True, False),
        (1, 100, LEAST_ROUND_TOKENS - 1, False, False),
        (1, 1, 20.0, False, True),  # it finishes the head
        (9, 100, LEAST_ROUND_TOKENS, False, True),
    ],
)
def test_a_further_round_is_of_some_size_or_the_last(
    depth: int, wanted: int, tokens: float, first: bool, worth: bool
) -> None:
    assert is_worth_a_round(depth, wanted, tokens, first=first) is worth


def test_a_pace_is_that_of_nearly_every_rerank() -> None:
    pace = Pace()

    for hundreds in range(1, 11):  # 100, 200 ... 1,000 tokens/s
        pace.observe(hundreds * 100, 0, 1.0 + CALL_SECONDS)

    # one in ten was slower
    assert pace.tokens_per_second == pytest.approx(200)
    assert pace.tokens_within(2.0 + CALL_SECONDS) == pytest.approx(2 * 200)


def test_what_is_queued_takes_from_the_time() -> None:
    pace = Pace(1000)

    pace.queued_tokens = 300

    assert pace.tokens_within(1.0 + CALL_SECONDS) == pytest.approx(1000 - 300)


def test_a_rerank_that_had_to_wait_does_not_look_slow() -> None:
    pace = Pace()

    pace.observe(500, 1500, 2.0 + CALL_SECONDS)

    assert pace.tokens_per_second == pytest.approx((500 + 1500) / 2.0)


def test_a_measurement_of_nothing_is_ignored() -> None:
    pace = Pace(1000)

    pace.observe(0, 0, 1.0)
    pace.observe(10, 0, CALL_SECONDS)

    assert pace.tokens_per_second == 1000


def test_a_slow_minute_is_forgotten_by_those_who_could_do_nothing() -> None:
    pace = Pace()
    second = 1.0 + CALL_SECONDS
    pace.observe(1000, 0, second)
    for _ in range(20):
        pace.observe(10, 0, second)
    assert plan_depth([100], pace.tokens_within(second)) == 0

    attempts = 0
    while plan_depth([100], pace.tokens_within(second)) == 0:
        pace.found_too_slow(100, second)
        attempts += 1

    assert attempts <= 20
    assert pace.tokens_per_second == pytest.approx(1000)


def test_a_hopeless_deadline_says_nothing_about_the_pace() -> None:
    pace = Pace()
    pace.observe(1000, 0, 1.0 + CALL_SECONDS)
    pace.observe(500, 0, 1.0 + CALL_SECONDS)

    pace.found_too_slow(100, 0.05)

    assert pace.tokens_per_second == pytest.approx(500)


def test_a_stage_gets_its_share_of_what_is_left() -> None:
    deadline = Deadline(time.monotonic() + 10)

    given = share(deadline, 0.5)

    assert given.at - time.monotonic() == pytest.approx(0.5 * 10, abs=0.5)
    assert given.at < deadline.at


def test_a_passed_deadline_has_nothing_left_and_says_what_it_cut_short() -> None:
    passed = Deadline(time.monotonic() - 1)

    assert passed.remaining() == 0
    assert share(passed, 0.5).remaining() == 0
    with pytest.raises(OutOfTime, match="before the hits were fetched"):
        passed.check("the hits were fetched")
