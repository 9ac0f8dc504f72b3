"""Queries that share a request: who waits, who pays, who fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from core.deadline import Deadline
from core.encoding import Ids
from core.errors import BadModelOutput, OutOfTime, TritonUnavailable
from core.security.caller import Caller, set_caller
from core.security.quotas import Limits, Meter
from gateway.together import MOST_TOGETHER, Together

LONG = 60.0


class Model:
    """Answers with the sum of a text's ids, once it is told to; `requests` is what it was asked."""

    def __init__(self, *, poison: int = -1) -> None:
        self.requests: list[list[int]] = []
        self.failure: Exception | None = None
        self.deadlines: list[Deadline] = []
        self._poison = poison
        self._may_answer = asyncio.Semaphore(0)

    def answer(self, requests: int = 1_000) -> None:
        """Lets so many requests be answered."""
        for _ in range(requests):
            self._may_answer.release()

    async def encode(self, texts: Sequence[Ids], deadline: Deadline) -> list[int]:
        sums = [int(ids.sum()) for ids in texts]
        self.requests.append(sums)
        self.deadlines.append(deadline)
        await self._may_answer.acquire()
        if self._poison in sums:
            raise BadModelOutput("not a number")
        if self.failure is not None:
            raise self.failure
        return sums


class Counting(Meter):
    """Says what was counted."""

    def __init__(self, counted: list[int]) -> None:
        super().__init__(Limits(model_tokens_per_minute=600), lambda: 0.0)
        self._counted = counted

    def model_tokens(self, count: int) -> None:
        self._counted.append(count)


def text(number: int) -> Ids:
    """Token ids that sum up to a number."""
    return np.array([number], dtype=np.int32)


async def begin(
    together: Together[int], *numbers: int, seconds: float = LONG
) -> list[asyncio.Task[int]]:
    """Queries that have come as far as they can."""
    tasks = [
        asyncio.create_task(together.encode(text(number), Deadline.after(seconds)))
        for number in numbers
    ]
    await settle()
    return tasks


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_query_that_finds_nothing_under_way_is_sent_at_once_and_alone() -> None:
    model = Model()
    together = Together(model.encode, at_once=2)

    (task,) = await begin(together, 1)

    assert model.requests == [[1]]
    model.answer()
    assert await task == 1


async def test_beside_another_request_queries_go_in_company() -> None:
    model = Model()
    together = Together(model.encode, at_once=2)

    tasks = await begin(together, 1)
    tasks += await begin(together, 2)
    assert model.requests == [[1]]
    tasks += await begin(together, 3)

    assert model.requests == [[1], [2, 3]]
    model.answer()
    assert await asyncio.gather(*tasks) == [1, 2, 3]


async def test_a_query_without_company_goes_when_the_one_before_it_is_back() -> None:
    model = Model()
    together = Together(model.encode, at_once=2)

    tasks = await begin(together, 1, 2)
    model.answer(1)
    await settle()

    assert model.requests == [[1], [2]]
    model.answer()
    assert await asyncio.gather(*tasks) == [1, 2]


async def test_queries_that_find_all_instances_busy_share_the_next_request() -> None:
    model = Model()
    together = Together(model.encode, at_once=2)

    tasks = await begin(together, 1, 2, 3, 4, 5, 6)
    assert model.requests == [[1], [2, 3]]
    model.answer(1)
    await settle()

    assert model.requests == [[1], [2, 3], [4, 5, 6]]
    model.answer()
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5, 6]


async def test_a_request_holds_so_many_and_the_rest_goes_on_waiting() -> None:
    model = Model()
    together = Together(model.encode, at_once=1)
    waiting = range(2, MOST_TOGETHER + 4)

    tasks = await begin(together, 1, *waiting)
    model.answer(1)
    await settle()

    assert model.requests[1:] == [list(waiting[:MOST_TOGETHER])]
    model.answer()
    assert await asyncio.gather(*tasks) == [1, *waiting]
    assert model.requests[2:] == [list(waiting[MOST_TOGETHER:])]


async def test_a_shared_request_has_the_latest_of_its_deadlines() -> None:
    model = Model()
    together = Together(model.encode, at_once=1)

    tasks = await begin(together, 1)
    tasks += await begin(together, 2, seconds=LONG)
    tasks += await begin(together, 3, seconds=2 * LONG)
    model.answer()
    await asyncio.gather(*tasks)

    assert model.requests[1] == [2, 3]
    assert model.deadlines[1].remaining() > LONG


async def test_who_runs_out_of_time_while_waiting_is_told_so_and_left_out() -> None:
    model = Model()
    together = Together(model.encode, at_once=1)

    first = await begin(together, 1)
    late = await begin(together, 2, seconds=0.01)
    others = await begin(together, 3)
    with pytest.raises(OutOfTime, match="waited to be embedded"):
        await late[0]
    model.answer()

    assert await asyncio.gather(*first, *others) == [1, 3]
    assert model.requests == [[1], [3]]


async def test_a_caller_that_goes_away_takes_nobody_along() -> None:
    model = Model()
    together = Together(model.encode, at_once=1)

    tasks = await begin(together, 1, 2, 3, 4)
    tasks[0].cancel()  # its request is under way
    tasks[2].cancel()  # waits
    await settle()
    assert model.requests == [[1], [2, 4]]
    tasks[1].cancel()  # shares one that is under way
    model.answer()

    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each).__name__ for each in found[:3]] == ["CancelledError"] * 3
    assert found[3] == 4


async def test_a_failure_is_everybodys() -> None:
    model = Model()
    model.failure = TritonUnavailable("is away")
    together = Together(model.encode, at_once=1)

    tasks = await begin(together, 1, 2, 3)
    model.answer()

    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, TritonUnavailable) for each in found)
    assert model.requests == [[1], [2, 3]]


async def test_a_query_that_the_model_fails_on_fails_alone() -> None:
    model = Model(poison=3)
    together = Together(model.encode, at_once=1)

    tasks = await begin(together, 1, 2, 3, 4)
    model.answer()

    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[:2] + found[3:] == [1, 2, 4]
    assert isinstance(found[2], BadModelOutput)


async def test_after_all_that_queries_are_sent_alone_again() -> None:
    model = Model()
    together = Together(model.encode, at_once=1)
    tasks = await begin(together, 1, 2, 3)
    model.answer()
    await asyncio.gather(*tasks)
    model.requests.clear()

    assert await together.encode(text(7), Deadline.after(LONG)) == 7
    assert model.requests == [[7]]


async def test_each_pays_for_its_own_tokens_and_for_no_others() -> None:
    model = Model()
    together = Together(model.encode, special_tokens=2, at_once=1)
    spent: dict[int, list[int]] = {1: [], 2: [], 3: []}

    async def ask(number: int) -> int:
        set_caller(Caller(f"caller {number}", meter=Counting(spent[number])))
        return await together.encode(text(number), Deadline.after(LONG))

    tasks = [asyncio.create_task(ask(number)) for number in spent]
    await settle()
    model.answer()
    await asyncio.gather(*tasks)

    # What is sent alone is counted where it is sent.
    assert model.requests == [[1], [2, 3]]
    assert spent == {1: [], 2: [3], 3: [3]}
