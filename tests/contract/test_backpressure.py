"""Writers are held up when the index cannot follow them, and go on when it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.rpc import open_channel, reason_of
from indexer.config import IndexerConfig
from indexer.server import Indexer
from indexer.service import BATCHES_AT_ONCE, BEHIND_SECONDS
from tests.fakes.triton import FakeTriton
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
)

MOST = 6
NAME = "papers"


class Client:
    """An indexer that takes MOST changes more than its index has, and its Triton."""

    def __init__(self, channel: grpc.aio.Channel, triton: FakeTriton) -> None:
        self.triton = triton
        self.documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
        self.collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)

    async def shard(self) -> collection_pb2.ShardProgress:
        request = collection_pb2.GetCollectionRequest(name=NAME)
        (shard,) = (await self.collections.GetCollection(request)).collection.shards
        found: collection_pb2.ShardProgress = shard
        return found

    async def upsert(self, id: str) -> None:
        documents = [document_pb2.Document(id=id, text="heart and lung")]
        await self.documents.UpsertDocuments(
            document_pb2.UpsertDocumentsRequest(collection=NAME, documents=documents)
        )

    async def fill(self) -> grpc.aio.AioRpcError:
        """Writes until that is refused; the refusal."""
        for number in range(10 * MOST):
            try:
                await self.upsert(f"doc-{number}")
            except grpc.aio.AioRpcError as error:
                return error
        raise AssertionError("nothing was refused")

    async def until_indexed(self) -> collection_pb2.ShardProgress:
        while (shard := await self.shard()).lag_changes:
            pass
        return shard


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with FakeTriton() as triton:
        indexer = await Indexer.create(
            IndexerConfig(
                address="127.0.0.1:0",
                database_url=f"sqlite:///{tmp_path}/store.db",
                index_directory=tmp_path / "index",
                shard_count=1,
                triton_address=triton.address,
                model_directory=triton.model_directory,
                max_lag_changes=MOST,
            )
        )
        await indexer.start()
        async with open_channel(indexer.address) as channel:
            client = Client(channel, triton)
            await client.collections.CreateCollection(
                collection_pb2.CreateCollectionRequest(
                    collection=collection_pb2.Collection(name=NAME)
                )
            )
            yield client
        await indexer.stop(5.0)


async def test_a_batch_is_refused_while_the_index_is_too_far_behind(client: Client) -> None:
    client.triton.set_fault("unhealthy")
    refusal = await client.fill()

    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refusal) == "INDEX_BEHIND"
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(refusal).details[1].Unpack(retry)
    assert retry.retry_delay.ToSeconds() == BEHIND_SECONDS
    shard = await client.shard()
    assert shard.lag_changes == MOST == shard.head_sequence - shard.indexed_sequence
    assert shard.lag_seconds > 0


async def test_a_removal_is_taken_however_far_the_index_is_behind(client: Client) -> None:
    client.triton.set_fault("unhealthy")
    await client.fill()

    removed = await client.documents.DeleteDocuments(
        document_pb2.DeleteDocumentsRequest(collection=NAME, ids=["doc-0"])
    )

    assert removed.deleted_count == 1


async def test_batches_are_taken_again_once_the_index_has_caught_up(client: Client) -> None:
    client.triton.set_fault("unhealthy")
    await client.fill()

    client.triton.set_fault("ok")
    await client.until_indexed()
    await client.upsert("one-more")

    shard = await client.until_indexed()
    assert shard.head_sequence == MOST + 1
    assert shard.documents_per_second >= MOST / 60
    assert shard.lag_seconds == 0


async def test_a_stream_is_read_no_faster_than_the_index_grows(client: Client) -> None:
    client.triton.set_fault("unhealthy")
    refused = await client.fill()
    assert reason_of(refused) == "INDEX_BEHIND"
    batches = 5 * MOST

    async def requests() -> AsyncIterator[document_pb2.StreamDocumentsRequest]:
        for number in range(batches):
            document = document_pb2.Document(id=f"more-{number}", text="heart and lung")
            yield document_pb2.StreamDocumentsRequest(collection=NAME, documents=[document])

    answers = client.documents.StreamDocuments(requests()).__aiter__()
    seen = [await anext(answers)]
    # Those that were read before it was known which collection they are for.
    assert (await client.shard()).head_sequence <= MOST + BATCHES_AT_ONCE
    following = asyncio.ensure_future(anext(answers))
    client.triton.set_fault("ok")
    seen += [await following, *[each async for each in answers]]

    assert [each.batch for each in seen] == list(range(batches))
    assert not any(each.error.code for each in seen)
    assert (await client.until_indexed()).head_sequence == MOST + batches
