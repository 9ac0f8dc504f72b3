"""When the gateway's client takes a model for silent, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Gauge

from core.deadline import Deadline
from core.errors import OutOfTime, TritonUnavailable
from core.metrics import InferenceMetrics
from core.triton import BULK_PRIORITY, QUERY_PRIORITY, NeverSent
from gateway.guarded_triton import GuardedTriton
from gateway.pulse import ALIVE_SECONDS, QUIET_SECONDS
from tests.fakes.triton import FakeTriton

MODEL = "bi_encoder"
INPUTS = [np.ones((1, 1), dtype=np.int64)] * 2
SECONDS = 20.0


@pytest_asyncio.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as running:
        yield running


@pytest_asyncio.fixture
async def client(triton: FakeTriton) -> AsyncIterator[GuardedTriton]:
    registry = CollectorRegistry()
    silent = Gauge("silent", "Peers that are silent.", ("peer",), registry=registry)
    metrics = InferenceMetrics("test", registry)
    guarded = GuardedTriton.guard(triton.address, silent, metrics, bulk_requests=1)
    await guarded.start()
    yield guarded
    await guarded.stop(0)


async def infer(client: GuardedTriton, seconds: float, priority: int = QUERY_PRIORITY) -> int:
    """How many rows a model answers."""
    deadline = Deadline.after(seconds)
    return len(await client.infer(MODEL, "", INPUTS, deadline, priority=priority))


async def answers(client: GuardedTriton) -> bool:
    """Whether anybody asks the model at all, and gets an answer."""
    try:
        return await infer(client, SECONDS) == 1
    except TritonUnavailable:
        return False


async def give_up(client: GuardedTriton, times: int, priority: int) -> list[OutOfTime]:
    """Calls, one after another, that nobody answers in time."""
    errors = []
    for _ in range(times):
        with pytest.raises(OutOfTime) as raised:
            await infer(client, 0.1, priority)
        errors.append(raised.value)
    return errors


async def test_nobody_waits_for_a_silent_model_until_it_answers_a_probe(
    triton: FakeTriton, client: GuardedTriton
) -> None:
    triton.set_fault("hang")
    await give_up(client, 3, QUERY_PRIORITY)

    with pytest.raises(TritonUnavailable, match="has not answered for"):
        await infer(client, SECONDS)
    triton.set_fault("ok")

    async with asyncio.timeout(SECONDS):
        while not await answers(client):
            await asyncio.sleep(0.01)


async def test_a_triton_that_says_nothing_at_all_is_waited_for_by_nobody(
    triton: FakeTriton, client: GuardedTriton
) -> None:
    triton.set_fault("stopped")

    # All have time for an answer, and none waits for the end of it.
    waiting = [infer(client, SECONDS, priority) for priority in (QUERY_PRIORITY, BULK_PRIORITY)]
    for failure in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failure, TritonUnavailable)
        assert "has not answered for" in failure.message
    triton.set_fault("ok")

    async with asyncio.timeout(SECONDS):
        while not await answers(client):
            await asyncio.sleep(0.01)


async def test_a_model_that_takes_its_time_in_a_live_triton_is_waited_for(
    triton: FakeTriton, client: GuardedTriton
) -> None:
    triton.slow_seconds = 3 * (QUIET_SECONDS + ALIVE_SECONDS)
    triton.set_fault("slow")

    assert await infer(client, SECONDS) == 1


async def test_who_waited_for_a_turn_of_his_own_process_knows_nothing_of_the_model(
    triton: FakeTriton, client: GuardedTriton
) -> None:
    triton.set_fault("hang")
    holds_the_turn = asyncio.create_task(infer(client, SECONDS, BULK_PRIORITY))
    await asyncio.sleep(0)

    errors = await give_up(client, 6, BULK_PRIORITY)
    triton.set_fault("ok")

    assert all(isinstance(error, NeverSent) for error in errors)
    assert await infer(client, SECONDS) == 1
    holds_the_turn.cancel()
