"""Kill -9 of every role in turn while documents stream in: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.rpc import open_channel, reason_of
from deploy.local.cluster import Cluster, ClusterConfig
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

pytestmark = [pytest.mark.faults, pytest.mark.triton]

COLLECTION = "killed"
ROUNDS = 2
ROLES = ("gateway", "indexer", "shard-0", "shard-1", "triton")
BATCH = 8
IDS = 400
BATCHES_BETWEEN_KILLS = 12
SECONDS = 30.0
PATIENCE_SECONDS = 240.0


def is_passing(error: grpc.aio.AioRpcError) -> bool:
    """Whether a peer was away, or died under a send, which gRPC calls INTERNAL without details."""
    if error.code() is grpc.StatusCode.INTERNAL:
        return not reason_of(error)
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Writer:
    """Streams batches and notes what was acknowledged; sends a batch again until it is."""

    address: str
    texts: dict[str, str] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    resent: int = 0
    stopping: bool = False
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while not self.stopping:
            async with open_channel(self.address) as channel:
                stub: Any = document_pb2_grpc.DocumentServiceStub(channel)
                try:
                    await self._stream(stub)
                except grpc.aio.AioRpcError as error:
                    if not is_passing(error):
                        raise
                    self.resent += 1

    async def _stream(self, stub: Any) -> None:
        acknowledged = asyncio.Semaphore(1)

        async def requests() -> AsyncIterator[document_pb2.StreamDocumentsRequest]:
            while not self.stopping:
                await acknowledged.acquire()
                yield self._batch()

        async for reply in stub.StreamDocuments(requests(), timeout=SECONDS, wait_for_ready=True):
            assert reply.HasField("position"), reply.error
            for document in self._batch().documents:
                self.texts[document.id] = document.text
                self.writes[document.id] += 1
            self.batches += 1
            self.progress.set()
            acknowledged.release()

    def _batch(self) -> document_pb2.StreamDocumentsRequest:
        """The batch after those that are acknowledged; ids come round again as updates."""
        numbers = range(self.batches * BATCH, (self.batches + 1) * BATCH)
        return document_pb2.StreamDocumentsRequest(
            collection=COLLECTION,
            request_id=f"batch-{self.batches}",
            documents=[
                document_pb2.Document(id=f"d{n % IDS}", text=f"word written as number {n}")
                for n in numbers
            ],
        )

    async def more_batches(self, count: int) -> None:
        """Returns once so many more batches were acknowledged."""
        goal = self.batches + count
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.batches < goal:
                self.progress.clear()
                await self.progress.wait()


async def test_nothing_acknowledged_is_lost_or_applied_twice(tmp_path: Path) -> None:
    cluster = await Cluster.create(ClusterConfig(state=tmp_path / "state", shards=2, port=0))
    await cluster.start()
    try:
        async with open_channel(cluster.address) as channel:
            await _create(channel)
            writer = Writer(cluster.address)
            writing = asyncio.create_task(writer.run())
            for role in ROLES * ROUNDS:
                await writer.more_batches(BATCHES_BETWEEN_KILLS)
                cluster.kill(role)
            await writer.more_batches(BATCHES_BETWEEN_KILLS)
            writer.stopping = True
            await writing
            print(f"{writer.batches} batches acknowledged, {writer.resent} streams reopened")
            assert writer.resent > 0

            stored = await _stored(channel)
            assert {id: d.text for id, d in stored.items()} == writer.texts
            assert {id: d.version for id, d in stored.items()} == dict(writer.writes)
            end = await _settled(channel)
            assert await _found(channel, search_pb2.SEARCH_MODE_LEXICAL, end) == writer.texts
            assert await _found(channel, search_pb2.SEARCH_MODE_DENSE, end) == writer.texts
    finally:
        await cluster.stop(10.0)


async def _create(channel: grpc.aio.Channel) -> None:
    stub: Any = collection_pb2_grpc.CollectionServiceStub(channel)
    request = collection_pb2.CreateCollectionRequest(
        collection=collection_pb2.Collection(name=COLLECTION)
    )
    await stub.CreateCollection(request, timeout=SECONDS)


async def _stored(channel: grpc.aio.Channel) -> dict[str, document_pb2.Document]:
    stub: Any = document_pb2_grpc.DocumentServiceStub(channel)
    found: dict[str, document_pb2.Document] = {}
    token = ""
    while True:
        page = await stub.ListDocuments(
            document_pb2.ListDocumentsRequest(collection=COLLECTION, page_token=token),
            timeout=SECONDS,
            wait_for_ready=True,
        )
        found.update({document.id: document for document in page.documents})
        token = page.next_page_token
        if not token:
            return found


async def _settled(channel: grpc.aio.Channel) -> document_pb2.Position:
    """Returns the end of the feed once every accepted change is published."""
    stub: Any = collection_pb2_grpc.CollectionServiceStub(channel)
    request = collection_pb2.GetCollectionRequest(name=COLLECTION)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            state = (await stub.GetCollection(request, timeout=SECONDS)).collection
            if all(s.indexed_sequence == s.head_sequence for s in state.shards):
                return document_pb2.Position(
                    shards=[
                        document_pb2.ShardPosition(shard=s.shard, sequence=s.head_sequence)
                        for s in state.shards
                    ]
                )


async def _found(
    channel: grpc.aio.Channel,
    mode: search_pb2.SearchMode.ValueType,
    position: document_pb2.Position,
) -> dict[str, str]:
    """Every document that a complete answer finds, with its text."""
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    request = search_pb2.SearchRequest(
        collection=COLLECTION,
        query="word written as number",
        page_size=1000,
        mode=mode,
        min_position=position,
        rerank=ranking_pb2.Rerank(enabled=False),
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                reply = await stub.Search(request, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                if not is_passing(error):
                    raise
                continue
            if not reply.degraded:
                return {hit.document.id: hit.document.text for hit in reply.hits}
