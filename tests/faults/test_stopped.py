"""What is stopped for half a minute: answers keep coming meanwhile, and become whole again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    error_reason_pb2,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

pytestmark = [pytest.mark.faults, pytest.mark.triton]

COLLECTION = "stopped"
DOCUMENTS = 200
SETUP_SECONDS = 60.0
QUERIES_PER_SECOND = 20
DEADLINE_SECONDS = 1.0
GRACE_SECONDS = 0.05
HEALTHY_SECONDS = 5
STOPPED_SECONDS = 30
RECOVERY_SECONDS = 5


@dataclass(frozen=True)
class Outcome:
    """When a search was asked and answered, and what fell short; `failure` "" is an answer."""

    started: float
    ended: float
    labels: frozenset[str]
    failure: str = ""


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = await Cluster.create(
        ClusterConfig(
            state=tmp_path / "state",
            shards=2,
            port=0,
            # Else queries would be embedded without Triton.
            settings={"gateway": {"embedding_cache_megabytes": 0}},
        )
    )
    try:
        await made.start()
        yield made
    finally:
        await made.stop(10.0)


@pytest.mark.parametrize("role", ["shard-1", "triton"])
async def test_answers_keep_their_deadlines_and_become_whole_again(
    cluster: Cluster, role: str
) -> None:
    async with open_channel(cluster.address) as channel:
        await _fill(channel)
        await _warm(channel)
        asking = asyncio.create_task(_ask_steadily(channel))
        await asyncio.sleep(HEALTHY_SECONDS)
        pid = cluster.pids[role]
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            await asyncio.sleep(STOPPED_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
            continued = time.monotonic()
        outcomes = await asking

    _print(role, outcomes, stopped, continued)
    assert {outcome.failure for outcome in outcomes} == {""}
    longest = max(outcome.ended - outcome.started for outcome in outcomes)
    assert longest <= DEADLINE_SECONDS + GRACE_SECONDS
    meanwhile = [o for o in outcomes if o.started > stopped and o.ended < continued]
    assert len(meanwhile) > QUERIES_PER_SECOND * (STOPPED_SECONDS - 2 * DEADLINE_SECONDS)
    assert all(outcome.labels for outcome in meanwhile)
    recovered = [o for o in outcomes if o.started > continued + RECOVERY_SECONDS]
    assert len(recovered) > QUERIES_PER_SECOND
    assert not [outcome for outcome in recovered if outcome.labels]
    assert sum(cluster.restarts.values()) == 0


async def _fill(channel: grpc.aio.Channel) -> None:
    collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
    documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
    await collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=COLLECTION)
        ),
        timeout=SETUP_SECONDS,
    )
    reply = await documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(
            collection=COLLECTION,
            documents=[
                document_pb2.Document(id=f"d{n}", text=f"a ship with {n} oars")
                for n in range(DOCUMENTS)
            ],
        ),
        timeout=SETUP_SECONDS,
    )
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    request = _request(0)
    request.min_position.CopyFrom(reply.position)
    async with asyncio.timeout(SETUP_SECONDS):
        while (await stub.Search(request, timeout=SETUP_SECONDS)).degraded:
            pass


async def _warm(channel: grpc.aio.Channel) -> None:
    """Searches until times have been measured."""
    for number in range(2 * QUERIES_PER_SECOND):
        await _ask(channel, number)


async def _ask_steadily(channel: grpc.aio.Channel) -> list[Outcome]:
    """Asks at a fixed rate, whatever has become of the searches before."""
    seconds = HEALTHY_SECONDS + STOPPED_SECONDS + 2 * RECOVERY_SECONDS
    began = time.monotonic()
    searches = []
    for number in range(QUERIES_PER_SECOND * seconds):
        await asyncio.sleep(max(0.0, began + number / QUERIES_PER_SECOND - time.monotonic()))
        searches.append(asyncio.create_task(_ask(channel, number)))
    return await asyncio.gather(*searches)


async def _ask(channel: grpc.aio.Channel, number: int) -> Outcome:
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    started = time.monotonic()
    labels: frozenset[str] = frozenset()
    failure = ""
    try:
        reply = await stub.Search(_request(number), timeout=DEADLINE_SECONDS)
        labels = frozenset(_label(each) for each in reply.degraded)
    except grpc.aio.AioRpcError as error:
        failure = f"{error.code().name}: {error.details()}"
    return Outcome(started, time.monotonic(), labels, failure)


def _request(number: int) -> search_pb2.SearchRequest:
    # So few and short documents are reranked that two cores keep up with the rate.
    return search_pb2.SearchRequest(
        collection=COLLECTION,
        query=f"{number} oars of a ship",
        rerank=ranking_pb2.Rerank(depth=5),
    )


def _label(shortfall: search_pb2.Degradation) -> str:
    stage = search_pb2.Stage.Name(shortfall.stage).removeprefix("STAGE_")
    reason = error_reason_pb2.ErrorReason.Name(shortfall.reason).removeprefix("ERROR_REASON_")
    return f"{stage} {reason}"


def _print(role: str, outcomes: list[Outcome], stopped: float, continued: float) -> None:
    """What an operator would like to know."""
    phases: dict[str, list[Outcome]] = {"healthy": [], "stopped": [], "continued": []}
    for outcome in outcomes:
        after = (outcome.started > stopped) + (outcome.started > continued)
        phases[list(phases)[after]].append(outcome)
    for phase, found in phases.items():
        times = [(outcome.ended - outcome.started) * 1000 for outcome in found]
        p50, p99 = np.percentile(times, [50, 99])
        labels = Counter(label for outcome in found for label in outcome.labels)
        print(f"{role} {phase}: {len(found)} searches, p50 {p50:.0f} ms, p99 {p99:.0f} ms")
        print(f"  worst {max(times):.0f} ms, labels {dict(labels)}")
    short = [outcome.started - continued for outcome in phases["continued"] if outcome.labels]
    print(f"  last answer that fell short was asked {max(short, default=0.0):.2f} s after that")
