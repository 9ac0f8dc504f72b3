"""With two replicas of each shard, one that is away, stopped or slow costs nothing but its help."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from core.rpc import open_channel
from gateway.replicas import BURST_HEDGES
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Family, running
from tests.paths.test_degraded import TEXTS, until
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc
from trireme.v1 import collection_pb2, document_pb2, search_pb2

COLLECTION = "replicated"
SEARCHES = 60
# Of every search: lexical statistics, lexical and dense leg, for each of two shards.
CALLS = 6


@pytest_asyncio.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Family]:
    """A family in which every shard has two replicas that both serve the documents."""
    state = tmp_path_factory.mktemp("replicas") / "state"
    async with (
        FakeTriton() as triton,
        running(state, triton, replicas=2) as cluster,
        open_channel(cluster.address) as channel,
    ):
        family = Family(cluster, triton, channel)
        await family.collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(
                collection=collection_pb2.Collection(name=COLLECTION)
            ),
            timeout=SECONDS,
        )
        position = await family.put(COLLECTION, **TEXTS)
        for role in ("shard-0", "shard-1"):
            for name in (role, f"{role}-replica-1"):
                await _has(cluster.addresses[name], position)
        await family.search(COLLECTION, "word", min_position=position)
        yield family


async def _has(address: str, position: document_pb2.Position) -> None:
    """Returns once the shard there serves the writes."""
    wanted = {shard.shard: shard.sequence for shard in position.shards}
    async with open_channel(address) as channel, asyncio.timeout(SECONDS):
        async for message in shard_pb2_grpc.ShardServiceStub(channel).Watch(
            shard_pb2.WatchRequest(), wait_for_ready=True
        ):
            for state in message.collections:
                if state.collection == COLLECTION and state.sequence >= wanted.get(state.shard, 0):
                    return


@contextmanager
def stopped(family: Family, role: str) -> Iterator[None]:
    pid = family.cluster.pids[role]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def metric(family: Family, name: str, **labels: str) -> float:
    """The sum of a metric's values with these labels."""
    url = f"http://{family.cluster.metrics_addresses['gateway']}/metrics"
    with urllib.request.urlopen(url, timeout=SECONDS) as page:
        families = text_string_to_metric_families(page.read().decode())
    return sum(
        sample.value
        for each in families
        for sample in each.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def assert_complete(family: Family, reply: search_pb2.SearchResponse) -> None:
    assert not reply.degraded
    assert {hit.document.id for hit in reply.hits} == set(TEXTS)
    assert all(shard.complete for shard in reply.shards)


async def test_searches_are_complete_while_a_replica_is_stopped(pair: Family) -> None:
    with stopped(pair, "shard-0"):
        for _ in range(SEARCHES):
            reply = await pair.search(COLLECTION, "word", page_size=20, seconds=2.0)
            await assert_complete(pair, reply)
        assert metric(pair, "trireme_gateway_silent_peers") == 1

    second = "trireme_gateway_second_calls_total"
    hedged = sum(metric(pair, second, reason="late", outcome=o) for o in ("won", "lost"))
    assert 1 <= hedged <= BURST_HEDGES + 0.1 * CALLS * (SEARCHES + 10)


async def test_searches_are_complete_while_a_replica_is_killed(pair: Family) -> None:
    pair.cluster.kill("shard-1-replica-1")

    for _ in range(SEARCHES):
        reply = await pair.search(COLLECTION, "word", page_size=20)
        await assert_complete(pair, reply)


async def test_a_shard_whose_replicas_are_all_stopped_is_named(pair: Family) -> None:
    with stopped(pair, "shard-0"), stopped(pair, "shard-0-replica-1"):
        reply = await pair.search(COLLECTION, "word", page_size=20, seconds=1.0)
    assert {shard for each in reply.degraded for shard in each.shards} == {0}

    await until(pair, COLLECTION, lambda reply: not reply.degraded)


async def test_a_write_is_seen_whichever_replica_answers(pair: Family) -> None:
    for number in range(20):
        position = await pair.put(COLLECTION, changing=f"word spelt number{number}")
        reply = await pair.search(COLLECTION, f"number{number}", min_position=position)
        assert reply.hits[0].document.text == f"word spelt number{number}"
    await pair.delete(COLLECTION, "changing")
