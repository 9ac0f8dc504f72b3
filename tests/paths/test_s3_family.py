"""The whole family with its index in a bucket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Client, Family
from tests.servers import s3
from tests.servers.index_engines import servers
from trireme.v1 import collection_pb2, search_pb2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    with servers(tmp_path_factory) as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", found["moto"].endpoint)
        patch.setenv("AWS_REGION", s3.REGION)
        yield found["moto"]


@pytest_asyncio.fixture
async def family(server: s3.S3Server, tmp_path: Path) -> AsyncIterator[Family]:
    async with FakeTriton() as triton:
        config = ClusterConfig(
            state=tmp_path / "state",
            triton_address=triton.address,
            model_directory=triton.model_directory,
            index_url=server.new_url(),
            settings={"shard": {"poll_seconds": 0.1}},
        )
        cluster = await Cluster.create(config)
        try:
            await cluster.start()
            async with open_channel(cluster.address) as channel:
                yield Family(cluster, triton, channel)
        finally:
            await cluster.stop(5.0)


async def complete(client: Client, position: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
    """The first answer of all shards."""
    async with asyncio.timeout(3 * SECONDS):
        while True:
            try:
                reply: search_pb2.SearchResponse = await client.searches.Search(
                    position, timeout=SECONDS
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            if not reply.degraded:
                return reply


async def test_a_shard_that_lost_its_machine_comes_back_from_the_bucket(
    family: Family, server: s3.S3Server
) -> None:
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name="ships")),
        timeout=SECONDS,
    )
    texts = {f"d{number}": f"galley number {number} is rowed" for number in range(40)}
    position = await family.put("ships", **texts)
    request = search_pb2.SearchRequest(
        collection="ships", query="galley number 7", min_position=position, page_size=40
    )
    before = await complete(family, request)
    assert len(before.hits) == 40
    index = family.cluster.config.state / "index"
    assert not list(index.glob("*/*/CURRENT"))
    assert server.raw(str(family.cluster.config.index_url)).present()

    shutil.rmtree(index / "cache" / "shard-0")
    family.cluster.kill("shard-0")
    async with asyncio.timeout(3 * SECONDS):
        while family.cluster.restarts["shard-0"] == 0:
            await asyncio.sleep(0.05)
    after = await complete(family, request)

    assert [hit.document for hit in after.hits] == [hit.document for hit in before.hits]
