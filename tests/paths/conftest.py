"""One whole family for all path tests: real processes, the fake Triton, ephemeral ports."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

# Before any test: how wide its console is would be as the first command of a test was told.
import deploy.cli.client  # noqa: F401
from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.triton import FakeTriton
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    inference_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

SECONDS = 20.0


class Client:
    """What clients ask of a gateway."""

    channel: grpc.aio.Channel

    @property
    def searches(self) -> Any:
        return search_pb2_grpc.SearchServiceStub(self.channel)

    @property
    def documents(self) -> Any:
        return document_pb2_grpc.DocumentServiceStub(self.channel)

    @property
    def collections(self) -> Any:
        return collection_pb2_grpc.CollectionServiceStub(self.channel)

    @property
    def inference(self) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    async def put(self, collection: str, **texts: str) -> document_pb2.Position:
        """Stores documents given as id=text; returns the position of the write."""
        reply = await self.documents.UpsertDocuments(
            document_pb2.UpsertDocumentsRequest(
                collection=collection,
                documents=[document_pb2.Document(id=i, text=t) for i, t in texts.items()],
            ),
            timeout=SECONDS,
        )
        position: document_pb2.Position = reply.position
        return position

    async def delete(self, collection: str, *ids: str) -> document_pb2.Position:
        """Removes documents; returns the position of the removal."""
        reply = await self.documents.DeleteDocuments(
            document_pb2.DeleteDocumentsRequest(collection=collection, ids=ids), timeout=SECONDS
        )
        position: document_pb2.Position = reply.position
        return position

    async def search(
        self, collection: str, query: str, *, seconds: float = SECONDS, **fields: Any
    ) -> search_pb2.SearchResponse:
        """One search."""
        request = search_pb2.SearchRequest(collection=collection, query=query, **fields)
        reply: search_pb2.SearchResponse = await self.searches.Search(request, timeout=seconds)
        return reply


@dataclass(frozen=True)
class Family(Client):
    """A running cluster as its clients see it, and the fake Triton behind it."""

    cluster: Cluster
    triton: FakeTriton
    channel: grpc.aio.Channel


@pytest_asyncio.fixture(scope="session")
async def family(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Family]:
    state = tmp_path_factory.mktemp("family") / "state"
    async with (
        FakeTriton() as triton,
        running(state, triton) as cluster,
        open_channel(cluster.address) as channel,
    ):
        yield Family(cluster, triton, channel)


@asynccontextmanager
async def running(
    state: Path,
    triton: FakeTriton,
    *,
    cache_megabytes: int = 0,
    shadow_queries: int = 0,
    slow_search_seconds: float = 1.0,
    keep_seconds: float | None = None,
    replicas: int = 1,
) -> AsyncIterator[Cluster]:
    """A cluster with two shards on the fake Triton, for the time of a block.

    With `keep_seconds` indexer and shards keep replaced generations no longer than that.
    """
    kept = {} if keep_seconds is None else {"keep_seconds": keep_seconds}
    config = ClusterConfig(
        state=state,
        shards=2,
        replicas=replicas,
        port=0,
        http_port=0,
        triton_address=triton.address,
        model_directory=triton.model_directory,
        # What breaks in Triton shall show, also for a query that was asked before.
        settings={
            "gateway": {
                "embedding_cache_megabytes": cache_megabytes,
                "shadow_queries": shadow_queries,
                "slow_search_seconds": slow_search_seconds,
            },
            "indexer": kept,
            "shard": kept and {**kept, "page_seconds": keep_seconds},
        },
    )
    cluster = await Cluster.create(config)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop(5.0)


@pytest_asyncio.fixture
async def collection(family: Family) -> AsyncIterator[str]:
    """An empty collection of its own for one test; afterwards Triton is well again."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name=name)),
        timeout=SECONDS,
    )
    yield name
    family.triton.set_fault("ok")
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )
