"""Triton's queue: who stands in it, who is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from core.deadline import Deadline
from core.errors import OutOfTime
from core.triton import BULK_PRIORITY, BULK_REQUESTS, QUERY_PRIORITY, TritonClient
from tests.contract.conftest import Served

pytestmark = pytest.mark.triton

MODEL, RERANKER = "bi_encoder", "cross_encoder"
INPUTS = {MODEL: 2, RERANKER: 3}
INSTANCES = 2
# Batches that wait, formed already, for an instance.
FORMED = 2 * INSTANCES
# Rows that keep an instance busy while something is sent: more, where the machine was too slow for
# that or too fast.
BLOCK_ROWS, BLOCK_TOKENS = (6, 24, 96), 192
MARKER = 11


def soon() -> Deadline:
    return Deadline.after(120)


def inputs(model: str, rows: int, tokens: int) -> list[NDArray[np.int64]]:
    ids = np.full((rows, tokens), 1000, dtype=np.int64)
    return [ids, *[np.ones_like(ids)] * (INPUTS[model] - 1)]


@pytest.fixture
async def client(real_triton: Served) -> AsyncIterator[TritonClient]:
    client = TritonClient.create(real_triton.address, max_in_flight=1000)
    yield client
    await client.stop(0)


async def infer(
    client: TritonClient,
    rows: int,
    tokens: int,
    *,
    priority: int,
    deadline: Deadline | None = None,
    model: str = MODEL,
) -> NDArray[np.float32]:
    return await client.infer(
        model, "", inputs(model, rows, tokens), deadline or soon(), priority=priority
    )


async def statistics(client: TritonClient, model: str = MODEL) -> Any:
    """What has run until now. Triton counts a request a moment after it has answered it."""
    request = service_pb2.ModelStatisticsRequest(name=model)
    counted = ran(await _read(client, request), MARKER)
    await infer(client, MARKER, 16, priority=QUERY_PRIORITY, model=model)
    while ran(found := await _read(client, request), MARKER) == counted:
        continue
    return found


async def _read(client: TritonClient, request: Any) -> Any:
    return (await client._stub.ModelStatistics(request)).model_stats[0]


def ran(statistics: Any, rows: int) -> int:
    """How many batches of so many rows have run."""
    return sum(
        int(each.compute_infer.count) for each in statistics.batch_stats if each.batch_size == rows
    )


async def busy(
    client: TritonClient, model: str = MODEL, rows: int = BLOCK_ROWS[0]
) -> list[asyncio.Task[Any]]:
    """Calls that keep every instance busy, already there."""
    # Of different lengths, since one instance would take equal ones as one batch.
    lengths = [BLOCK_TOKENS + 8 * number for number in range(INSTANCES)]
    blocks = [
        asyncio.create_task(infer(client, rows, tokens, priority=QUERY_PRIORITY, model=model))
        for tokens in lengths
    ]
    await infer_metadata(client)
    return blocks


async def infer_metadata(client: TritonClient) -> None:
    """A round trip on the same connection, behind whatever was sent before."""
    await client.model_info(MODEL, "", soon())


async def test_a_query_stands_behind_few_documents(client: TritonClient) -> None:
    done: list[str] = []

    async def call(name: str, tokens: int, priority: int) -> None:
        await infer(client, 4, tokens, priority=priority)
        done.append(name)

    blocks = await busy(client)
    # Lengths differ, so that no two run as one batch.
    documents = [
        asyncio.create_task(call(f"document {n}", 64 + 8 * n, BULK_PRIORITY)) for n in range(12)
    ]
    await infer_metadata(client)
    query = asyncio.create_task(call("query", 16, QUERY_PRIORITY))
    await asyncio.gather(*blocks, *documents, query)

    assert done.index("query") <= BULK_REQUESTS


@pytest.mark.parametrize("model", [MODEL, RERANKER])
async def test_what_is_cancelled_in_the_queue_is_never_run(
    client: TritonClient, model: str
) -> None:
    async def send_and_cancel() -> None:
        waiting = [
            asyncio.create_task(infer(client, 3, 64 + 8 * n, priority=QUERY_PRIORITY, model=model))
            for n in range(10)
        ]
        await infer_metadata(client)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    assert await ran_behind_blocks(client, send_and_cancel, rows=3, model=model) <= FORMED


async def test_what_nobody_waits_for_any_more_is_never_run(client: TritonClient) -> None:
    async def send_in_vain() -> None:
        outcomes = await asyncio.gather(
            *(
                infer(client, 5, 64 + 8 * n, priority=QUERY_PRIORITY, deadline=Deadline.after(0.1))
                for n in range(10)
            ),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {OutOfTime}

    assert await ran_behind_blocks(client, send_in_vain, rows=5) <= FORMED


async def ran_behind_blocks(
    client: TritonClient, send: Callable[[], Awaitable[None]], *, rows: int, model: str = MODEL
) -> int:
    """Batches of so many rows that ran of what was sent while every instance was busy."""
    for block_rows in BLOCK_ROWS:
        before = await statistics(client, model)
        blocks = await busy(client, model, block_rows)
        await send()
        # Whatever was given up is known to Triton when it has answered this.
        await infer_metadata(client)
        were_busy = not any(block.done() for block in blocks)
        await asyncio.gather(*blocks)
        # What still waited would run before the request that this sends.
        after = await statistics(client, model)
        assert ran(after, block_rows) - ran(before, block_rows) == INSTANCES
        if were_busy:
            return ran(after, rows) - ran(before, rows)
    pytest.fail("no block kept an instance busy for long enough")


async def test_documents_wait_no_longer_than_their_deadline(client: TritonClient) -> None:
    blocks = await busy(client)
    more = [
        asyncio.create_task(infer(client, 1, 16 + 8 * n, priority=BULK_PRIORITY))
        for n in range(BULK_REQUESTS)
    ]
    await infer_metadata(client)

    with pytest.raises(OutOfTime, match="other inferences were in flight"):
        await infer(client, 1, 8, priority=BULK_PRIORITY, deadline=Deadline.after(0.001))

    await asyncio.gather(*blocks, *more)


async def test_equal_lengths_run_as_one_batch(client: TritonClient) -> None:
    before = await statistics(client)
    blocks = await busy(client)

    calls = [asyncio.create_task(infer(client, 1, 24, priority=QUERY_PRIORITY)) for _ in range(20)]
    await asyncio.gather(*calls, *blocks)

    after = await statistics(client)
    executions = after.execution_count - before.execution_count - INSTANCES - 1
    assert 1 <= executions <= 20 / 2
