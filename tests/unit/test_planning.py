"""How time is spent: pure decisions."""

import time

import pytest

from core.deadline import Deadline
from core.errors import OutOfTime
from gateway.planning import REPLY_SECONDS, Speed, plan_depth, share


@pytest.mark.parametrize(
    ("seconds", "depth"),
    [(0.0, 0), (0.09, 0), (0.1, 1), (0.25, 2), (10.0, 3)],
)
def test_depth_is_the_longest_head_that_fits(seconds: float, depth: int) -> None:
    # 1,000 tokens/s: the documents take 0.1, 0.15 and 0.2 s
    assert plan_depth([100, 150, 200], 1000, seconds) == depth


def test_a_long_passage_ends_the_head_rather_than_being_skipped() -> None:
    assert plan_depth([100, 5000, 1], 1000, 1.0) == 1


def test_speed_follows_measurements() -> None:
    speed = Speed(1000)

    speed.observe(4000, 2.0, weight=0.5)

    assert speed.tokens_per_second == 1000 + 0.5 * (2000 - 1000)


def test_speed_ignores_measurements_of_nothing() -> None:
    speed = Speed(1000)

    speed.observe(0, 1.0)
    speed.observe(10, 0.0)

    assert speed.tokens_per_second == 1000


def test_a_stage_gets_its_share_of_what_is_left() -> None:
    deadline = Deadline(time.monotonic() + 10)

    given = share(deadline, 0.5)

    assert given.at - time.monotonic() == pytest.approx(0.5 * (10 - REPLY_SECONDS), abs=0.5)
    assert given.at < deadline.at


def test_a_passed_deadline_has_nothing_left_and_says_what_it_cut_short() -> None:
    passed = Deadline(time.monotonic() - 1)

    assert passed.remaining() == 0
    with pytest.raises(OutOfTime, match="before the hits were fetched"):
        passed.check("the hits were fetched")
