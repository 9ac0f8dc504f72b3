"""Kill -9 of the indexer in the midst of restores: a collection is there whole, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from core.rpc import open_channel, reason_of
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2, snapshot_pb2, snapshot_pb2_grpc

pytestmark = pytest.mark.faults

DOCUMENTS = 20_000
BATCH = 200
ROUNDS = 12
SEED = 5
PATIENCE_SECONDS = 120.0
RESTORE = snapshot_pb2.RestoreSnapshotRequest(name="s", collection="copy")


@pytest_asyncio.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    async with FakeTriton() as triton:
        cluster = await Cluster.create(
            ClusterConfig(
                state=tmp_path / "state",
                triton_address=triton.address,
                model_directory=triton.model_directory,
            )
        )
        try:
            await cluster.start()
            async with open_channel(cluster.address) as channel:
                yield Family(cluster, triton, channel)
        finally:
            await cluster.stop(5.0)


async def counted(family: Family, collection: str) -> int | None:
    """Documents of a collection as soon as the indexer answers, None if it is not there."""
    request = collection_pb2.GetCollectionRequest(name=collection)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                reply = await family.collections.GetCollection(request, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                if reason_of(error) == "COLLECTION_NOT_FOUND":
                    return None
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)
            else:
                return int(reply.collection.document_count)


async def test_a_killed_restore_leaves_all_or_nothing(family: Family) -> None:
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name="ships")),
        timeout=SECONDS,
    )
    for start in range(0, DOCUMENTS, BATCH):
        await family.put("ships", **{f"d{n}": f"galley {n}" for n in range(start, start + BATCH)})
    stub = snapshot_pb2_grpc.SnapshotServiceStub(family.channel)
    wanted = snapshot_pb2.Snapshot(name="s", collection="ships")
    await stub.CreateSnapshot(snapshot_pb2.CreateSnapshotRequest(snapshot=wanted), timeout=60)

    numbers, seen = random.Random(SEED), []
    for _ in range(ROUNDS):
        restoring = asyncio.ensure_future(stub.RestoreSnapshot(RESTORE, timeout=PATIENCE_SECONDS))
        await asyncio.sleep(numbers.uniform(0, 2.5))
        family.cluster.kill("indexer")
        await asyncio.gather(restoring, return_exceptions=True)
        found = await counted(family, "copy")
        seen.append(found)
        if found is not None:
            await family.collections.DeleteCollection(
                collection_pb2.DeleteCollectionRequest(name="copy"), timeout=PATIENCE_SECONDS
            )
    print(f"seed {SEED}: of {ROUNDS} restores {seen.count(None)} left nothing, the rest all")

    assert set(seen) <= {None, DOCUMENTS}
    assert None in seen
    await stub.RestoreSnapshot(RESTORE, timeout=PATIENCE_SECONDS)
    assert await counted(family, "copy") == DOCUMENTS
    request = document_pb2.ListDocumentsRequest(collection="copy", page_size=1)
    assert (await family.documents.ListDocuments(request, timeout=SECONDS)).documents
