"""What is taken off a deadline for the reply."""

from __future__ import annotations

import pytest

from core.deadline import Deadline
from gateway.reply_time import (
    LEAST_SECONDS,
    LEAST_SHARE,
    MOST_SECONDS,
    MOST_SHARE,
    TRANSIT_SECONDS,
    ReplyTime,
)


def reserve(reply_time: ReplyTime, seconds: float) -> float:
    deadline = Deadline.after(seconds)
    return deadline.at - reply_time.before(deadline).at


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, TRANSIT_SECONDS + LEAST_SECONDS),
        (1.0, TRANSIT_SECONDS + LEAST_SHARE * 1.0),
        (0.01, MOST_SHARE * 0.01),
    ],
)
def test_before_anything_is_measured_a_little_is_taken_off(seconds: float, expected: float) -> None:
    assert reserve(ReplyTime(), seconds) == pytest.approx(expected, abs=2e-3)


def test_who_came_too_late_is_given_more_next_time() -> None:
    reply_time = ReplyTime()
    before = reserve(reply_time, 0.5)

    reply_time.missed(Deadline.after(-before))

    assert reserve(reply_time, 0.5) > before


def test_a_long_pause_does_not_take_all_the_time() -> None:
    reply_time = ReplyTime()

    reply_time.missed(Deadline.after(-60.0))

    assert reserve(reply_time, 10.0) == pytest.approx(
        TRANSIT_SECONDS + LEAST_SHARE * 10.0, abs=0.01
    )
    assert reserve(reply_time, 1.0) == pytest.approx(TRANSIT_SECONDS + MOST_SECONDS, abs=2e-3)


def test_a_caller_that_leaves_before_its_deadline_says_nothing() -> None:
    reply_time = ReplyTime()
    before = reserve(reply_time, 0.5)

    reply_time.missed(Deadline.after(10.0))

    assert reserve(reply_time, 0.5) == pytest.approx(before, abs=2e-3)
