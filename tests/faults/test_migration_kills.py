"""Kill -9 of the indexer in every state of a migration: it goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.triton import FakeTriton
from tests.faults.test_kills import is_passing
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

pytestmark = pytest.mark.faults

COLLECTION = "killed"
DOCUMENTS = 200
SECONDS = 20.0
PATIENCE_SECONDS = 120.0
KEEP_SECONDS = 2.0
State = migration_pb2.MigrationState


class Caller:
    """Calls again for as long as the indexer is away."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
        self.documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
        self.migrations: Any = migration_pb2_grpc.MigrationServiceStub(channel)
        self.searches: Any = search_pb2_grpc.SearchServiceStub(channel)
        self.acknowledged: set[str] = set()

    async def call(self, method: Any, request: Any) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await method(request, timeout=SECONDS)
                except grpc.aio.AioRpcError as error:
                    if not is_passing(error):
                        raise

    async def create(self) -> None:
        encoder = collection_pb2.ModelVersion(model="bi_encoder", version="1")
        wanted = collection_pb2.Collection(name=COLLECTION, encoder=encoder)
        request = collection_pb2.CreateCollectionRequest(collection=wanted)
        await self.call(self.collections.CreateCollection, request)

    async def write(self, name: str, count: int) -> document_pb2.Position:
        ids = [f"{name}-{number}" for number in range(count)]
        request = document_pb2.UpsertDocumentsRequest(
            collection=COLLECTION,
            request_id=name,
            documents=[document_pb2.Document(id=id, text=f"word of {id}") for id in ids],
        )
        reply = await self.call(self.documents.UpsertDocuments, request)
        self.acknowledged.update(ids)
        position: document_pb2.Position = reply.position
        return position

    async def migrate(self, **plan: Any) -> None:
        encoder = collection_pb2.ModelVersion(model="bi_encoder", version="2")
        request = migration_pb2.MigrateCollectionRequest(
            collection=COLLECTION, encoder=encoder, **plan
        )
        await self.call(self.migrations.MigrateCollection, request)

    async def ask(self, method: Any, kind: Any, **fields: Any) -> migration_pb2.Migration:
        found: migration_pb2.Migration = (
            await self.call(method, kind(collection=COLLECTION, **fields))
        ).migration
        return found

    async def state(self) -> State.ValueType:
        get = self.migrations.GetMigration
        return (await self.ask(get, migration_pb2.GetMigrationRequest)).state

    async def until(self, *states: State.ValueType) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.state() not in states:
                pass

    async def found(self, version: str, position: document_pb2.Position) -> set[str]:
        """What a whole answer by that version finds once it covers `position`."""
        request = search_pb2.SearchRequest(
            collection=COLLECTION,
            query="word",
            page_size=1000,
            min_position=position,
            rerank=ranking_pb2.Rerank(enabled=False),
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                reply = await self.call(self.searches.Search, request)
                if not reply.degraded and reply.encoder.version == version:
                    return {hit.document.id for hit in reply.hits}


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[tuple[Cluster, Caller]]:
    async with FakeTriton(versions=("1", "2")) as triton:
        config = ClusterConfig(
            state=root / "state",
            shards=2,
            port=0,
            triton_address=triton.address,
            model_directory=triton.model_directory,
            settings={"indexer": {"batch_documents": 8, "keep_seconds": KEEP_SECONDS}},
        )
        cluster = await Cluster.create(config)
        await cluster.start()
        try:
            async with open_channel(cluster.address) as channel:
                yield cluster, Caller(channel)
        finally:
            await cluster.stop(5.0)


@pytest.mark.parametrize("moment", ["building", "ready", "switched", "finished", "rolled back"])
async def test_a_killed_indexer_goes_on_with_the_migration(tmp_path: Path, moment: str) -> None:
    async with running(tmp_path) as (cluster, caller):
        await caller.create()
        await caller.write("before", DOCUMENTS)
        await caller.migrate(tokens_per_second=2_000 if moment == "building" else 0)
        if moment != "building":
            await caller.until(migration_pb2.MIGRATION_STATE_READY)
        if moment in ("switched", "finished", "rolled back"):
            switch = caller.migrations.SwitchMigration
            await caller.ask(switch, migration_pb2.SwitchMigrationRequest)
        if moment == "finished":
            finish = caller.migrations.FinishMigration
            await caller.ask(finish, migration_pb2.FinishMigrationRequest)
        if moment == "rolled back":
            roll_back = caller.migrations.RollbackMigration
            await caller.ask(roll_back, migration_pb2.RollbackMigrationRequest)
        before = await caller.state()

        cluster.kill("indexer")
        position = await caller.write("after", 20)

        if moment == "building":
            assert before == migration_pb2.MIGRATION_STATE_BUILDING
            await caller.until(migration_pb2.MIGRATION_STATE_READY)
        else:
            assert await caller.state() == before
        answering = "2" if moment in ("switched", "finished") else "1"
        assert await caller.found(answering, position) == caller.acknowledged
        if moment == "switched":
            roll_back = caller.migrations.RollbackMigration
            await caller.ask(roll_back, migration_pb2.RollbackMigrationRequest)
            assert await caller.found("1", position) == caller.acknowledged


async def test_kills_all_along_a_migration_lose_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as (cluster, caller):
        await caller.create()
        await caller.write("before", DOCUMENTS)
        await caller.migrate(auto_switch=True, tokens_per_second=4_000)
        for round in range(4):
            await caller.write(f"round-{round}", 20)
            cluster.kill("indexer")
        position = await caller.write("end", 20)
        await caller.until(migration_pb2.MIGRATION_STATE_SWITCHED)

        assert await caller.found("2", position) == caller.acknowledged
