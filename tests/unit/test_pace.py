"""Indexes that searches read embed first; others take what is left, at their own pace."""

from __future__ import annotations

import asyncio

import numpy as np

from core.deadline import Deadline
from indexer.migration.pace import TOKENS_AT_ONCE, Pace, PacedTexts, Precedence
from tests.fakes.write_path import FakeEncoders

SOON = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def a_few_turns() -> None:
    """Lets every other task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def ids(length: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.ones(length, np.int32)


def test_tokens_are_spread_over_time() -> None:
    clock = Clock()
    pace = Pace(Precedence(), clock=clock)
    pace.tokens_per_second = 100

    assert pace.due_in(50) == 0
    assert pace.due_in(200) == 50 / 100
    clock.now += 1
    assert pace.due_in(10) == (50 + 200) / 100 - 1


def test_time_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(Precedence(), clock=clock)
    pace.tokens_per_second = 100
    pace.due_in(100)
    clock.now += 1000

    assert pace.due_in(100) == 0
    assert pace.due_in(100) == 100 / 100


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace(Precedence(), clock=Clock())

    assert [pace.due_in(10**9) for _ in range(3)] == [0, 0, 0]


def test_an_index_behind_takes_small_turns() -> None:
    pace = Pace(Precedence())
    half = TOKENS_AT_ONCE // 2
    lengths = [half, half, 1, 3 * TOKENS_AT_ONCE, 5]

    assert pace.pieces(lengths) == [(0, 5)]
    pace.behind = True
    assert pace.pieces(lengths) == [(0, 2), (2, 3), (3, 4), (4, 5)]


async def test_an_index_behind_waits_for_those_in_front() -> None:
    precedence = Precedence()
    front, behind = Pace(precedence), Pace(precedence)
    behind.behind = True
    order = []

    async def work() -> None:
        async with behind.turn(1):
            order.append("behind")

    async with front.turn(1):
        waiting = asyncio.create_task(work())
        await a_few_turns()
        order.append("front")
    await waiting

    assert order == ["front", "behind"]


async def test_nobody_begins_while_held() -> None:
    pace = Pace(Precedence())
    encoders = FakeEncoders()
    paced = PacedTexts(encoders, pace)
    pace.hold(True)

    waiting = asyncio.create_task(paced.encode([ids(3)], Deadline.after(SOON)))
    await a_few_turns()
    assert encoders.texts == 0
    pace.hold(False)

    assert len(await waiting) == 1


async def test_pieces_come_together_in_order() -> None:
    pace = Pace(Precedence())
    encoders = FakeEncoders()
    texts = [ids(TOKENS_AT_ONCE), ids(7), ids(3)]
    whole = await PacedTexts(encoders, pace).encode(texts, Deadline.after(SOON))
    pace.behind = True

    pieces = await PacedTexts(encoders, pace).encode(texts, Deadline.after(SOON))

    assert (pieces == whole).all()
