"""What is broken is named in the answer, and gone from it once it is mended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import grpc
import pytest

from core.rpc import reason_of
from tests.fakes.triton import Fault
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import error_reason_pb2, ranking_pb2, search_pb2

TEXTS = {f"d{n}": f"common word and number {n}" for n in range(12)}
HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)


def patience(fault: Fault) -> float:
    """What a search is given: little where the fault makes it wait for all of it."""
    return 2.0 if fault == "hang" else SECONDS


def labels(reply: search_pb2.SearchResponse) -> set[tuple[str, str]]:
    return {
        (
            search_pb2.Stage.Name(d.stage).removeprefix("STAGE_"),
            error_reason_pb2.ErrorReason.Name(d.reason).removeprefix("ERROR_REASON_"),
        )
        for d in reply.degraded
    }


async def until(
    family: Family, collection: str, good: Callable[[search_pb2.SearchResponse], bool]
) -> search_pb2.SearchResponse:
    """Asks until an answer is `good`; the test's own patience is the limit."""
    async with asyncio.timeout(SECONDS):
        while True:
            reply = await family.search(collection, "word", page_size=20)
            if good(reply):
                return reply


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("unhealthy", "TRITON_UNAVAILABLE"),
        ("queue_full", "TRITON_UNAVAILABLE"),
        ("hang", "OUT_OF_TIME"),
        ("nan", "BAD_MODEL_OUTPUT"),
        ("wrong_shape", "BAD_MODEL_OUTPUT"),
        ("half", "BAD_MODEL_OUTPUT"),
    ],
)
async def test_without_a_query_vector_the_lexical_leg_answers(
    family: Family, collection: str, fault: Fault, reason: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault(fault)

    reply = await family.search(collection, "word", rerank=HYBRID_ALONE, seconds=patience(fault))

    assert len(reply.hits) == 10
    assert labels(reply) == {("ENCODE", reason)}
    assert not reply.HasField("encoder")
    family.triton.set_fault("ok")
    assert not (await family.search(collection, "word")).degraded


async def test_a_dense_search_without_a_query_vector_is_unavailable(
    family: Family, collection: str
) -> None:
    family.triton.set_fault("queue_full")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await family.search(collection, "word", mode=search_pb2.SEARCH_MODE_DENSE)

    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(failure.value) == "TRITON_UNAVAILABLE"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("queue_full", "TRITON_UNAVAILABLE"), ("hang", "OUT_OF_TIME"), ("nan", "BAD_MODEL_OUTPUT")],
)
async def test_a_dead_reranker_leaves_the_fused_order(
    family: Family, collection: str, fault: Fault, reason: str
) -> None:
    position = await family.put(collection, **TEXTS)
    fused = await family.search(collection, "number 3", rerank=HYBRID_ALONE, min_position=position)
    family.triton.set_fault(fault, "cross_encoder")

    reply = await family.search(collection, "number 3", seconds=patience(fault))

    assert labels(reply) == {("RERANK", reason)}
    assert reply.rerank.depth == 0
    assert [h.document.id for h in reply.hits] == [h.document.id for h in fused.hits]


async def test_a_write_that_cannot_be_indexed_in_time_is_labelled(
    family: Family, collection: str
) -> None:
    family.triton.set_fault("queue_full")
    position = await family.put(collection, a="word")

    reply = await family.search(
        collection,
        "word",
        mode=search_pb2.SEARCH_MODE_LEXICAL,
        rerank=HYBRID_ALONE,
        min_position=position,
        seconds=0.5,
    )

    assert ("WAIT", "NOT_YET_INDEXED") in labels(reply)
    family.triton.set_fault("ok")
    healed = await family.search(collection, "word", min_position=position)
    assert [hit.document.id for hit in healed.hits] == ["a"]


async def test_a_killed_shard_is_named_and_comes_back(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    whole = await family.search(collection, "word", page_size=20, min_position=position)
    assert len(whole.hits) == len(TEXTS)

    family.cluster.kill("shard-1")
    reply = await until(family, collection, lambda reply: bool(reply.degraded))

    assert {d.reason for d in reply.degraded} == {error_reason_pb2.ERROR_REASON_SHARD_UNAVAILABLE}
    assert all(list(d.shards) == [1] for d in reply.degraded)
    assert {hit.provenance.shard for hit in reply.hits} == {0}
    assert [shard.complete for shard in reply.shards] == [True, False]
    healed = await until(family, collection, lambda reply: not reply.degraded)
    assert [h.document.id for h in healed.hits] == [h.document.id for h in whole.hits]


async def test_a_stopped_shard_does_not_hold_up_the_others(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    pid = family.cluster.pids["shard-0"]

    os.kill(pid, signal.SIGSTOP)
    try:
        reply = await family.search(collection, "word number", page_size=20)
        counted = await family.search(collection, "word", page_size=20)
    finally:
        os.kill(pid, signal.SIGCONT)

    # Nobody waits until half of the time is over.
    stages = ("STATISTICS", "LEXICAL", "DENSE")
    assert labels(reply) == {(stage, "SHARD_UNAVAILABLE") for stage in stages}
    assert labels(counted) == {(stage, "SHARD_UNAVAILABLE") for stage in stages[1:]}
    assert {hit.provenance.shard for hit in reply.hits} == {1}
    await until(family, collection, lambda reply: not reply.degraded)


async def test_who_wants_all_or_nothing_gets_nothing_rather_than_a_part(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    whole = await family.search(collection, "word", min_position=position, min_coverage=1.0)
    assert whole.coverage == 1.0
    pid = family.cluster.pids["shard-0"]

    os.kill(pid, signal.SIGSTOP)
    try:
        half = await family.search(collection, "word", seconds=2.0, min_coverage=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await family.search(collection, "word", seconds=2.0, min_coverage=0.75)
    finally:
        os.kill(pid, signal.SIGCONT)

    # Both legs of one of two shards.
    assert half.coverage == 2 / 4
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(failure.value) == "INSUFFICIENT_COVERAGE"
    await until(family, collection, lambda reply: not reply.degraded)


async def test_a_shard_that_stays_stopped_is_soon_not_waited_for(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    pid = family.cluster.pids["shard-0"]

    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                reply = await family.search(collection, "word", seconds=1.0)
                reasons = {reason for _, reason in labels(reply)}
                if "OUT_OF_TIME" not in reasons:
                    break
    finally:
        os.kill(pid, signal.SIGCONT)

    assert reasons == {"SHARD_UNAVAILABLE"}
    assert {hit.provenance.shard for hit in reply.hits} == {1}
    await until(family, collection, lambda reply: not reply.degraded)


async def test_a_model_that_hangs_is_soon_not_waited_for(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("hang", "bi_encoder")

    async with asyncio.timeout(SECONDS):
        while True:
            reply = await family.search(collection, "word", seconds=0.5)
            if ("ENCODE", "TRITON_UNAVAILABLE") in labels(reply):
                break
    family.triton.set_fault("ok")

    assert reply.rerank.depth == len(TEXTS)
    await until(family, collection, lambda reply: not reply.degraded)


async def test_a_triton_that_says_nothing_at_all_is_not_waited_for(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("stopped")

    reply = await family.search(collection, "word")

    assert labels(reply) == {("ENCODE", "TRITON_UNAVAILABLE"), ("RERANK", "TRITON_UNAVAILABLE")}
    assert len(reply.hits) == 10
    family.triton.set_fault("ok")
    await until(family, collection, lambda reply: not reply.degraded)


async def test_searches_go_on_without_the_indexer(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)

    killed = family.cluster.pids["indexer"]
    family.cluster.kill("indexer")
    reply = await family.search(collection, "word")

    assert len(reply.hits) == 10
    assert not reply.degraded
    refusals = set()
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await family.put(collection, later="word")
            except grpc.aio.AioRpcError as error:
                refusals.add(reason_of(error))
            else:
                if family.cluster.pids["indexer"] != killed:
                    break
    assert refusals <= {"INDEXER_UNAVAILABLE"}
