"""One corpus on 1, 2 and 8 shards gives the same hits with the same scores in the same order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.rpc import open_channel
from gateway.config import GatewayConfig
from gateway.server import Gateway
from indexer.config import IndexerConfig
from indexer.server import Indexer
from shard.config import ShardConfig
from shard.server import Shard
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Client
from trireme.v1 import collection_pb2, document_pb2, ranking_pb2, search_pb2

SHARD_COUNTS = (1, 2, 8)
QUERIES = 300
DOCUMENTS = 240
WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in "aeiou" for c in ("nt", "rk", "st", "ng", "lt")]
LEGS = ("dense", "lexical", "sparse")


class Fleet(Client):
    """A gateway with its indexer and shards in this process, and one collection."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.position = document_pb2.Position()

    async def write(self, batches: list[tuple[dict[str, str], list[str]]]) -> None:
        """Stores and deletes batch by batch, each published before the next."""
        for texts, deleted in batches:
            if texts:
                self.position = await self.put("words", **texts)
            if deleted:
                self.position = await self.delete("words", *deleted)
            await self.search("words", "bant", min_position=self.position, page_size=1)

    async def ask(self, query: str, **fields: Any) -> search_pb2.SearchResponse:
        """One search of everything that was written."""
        reply = await self.search("words", query, min_position=self.position, **fields)
        assert not reply.degraded
        return reply


@asynccontextmanager
async def running(root: Path, triton: FakeTriton, shards: int) -> AsyncIterator[Fleet]:
    """A family of roles with so many shards; merges are frequent, and never complete."""
    async with AsyncExitStack() as stack:
        indexer = await Indexer.create(
            IndexerConfig(
                address="127.0.0.1:0",
                database_url=f"sqlite:///{root}/store.db",
                index_directory=root / "index",
                shard_count=shards,
                triton_address=triton.address,
                model_directory=triton.model_directory,
                batch_documents=24,
                merge_fanout=3,
                merge_most_rows=120,
            )
        )
        await indexer.start()
        stack.push_async_callback(indexer.stop, 0)
        addresses = []
        for number in range(shards):
            shard = await Shard.create(
                ShardConfig(shard=number, index_directory=root / "index", poll_seconds=0.2)
            )
            await shard.start()
            stack.push_async_callback(shard.stop, 0)
            addresses.append(shard.address)
        gateway = await Gateway.create(
            GatewayConfig(
                address="127.0.0.1:0",
                shards=tuple(addresses),
                indexer_address=indexer.address,
                triton_address=triton.address,
                model_directory=triton.model_directory,
            )
        )
        await gateway.start()
        stack.push_async_callback(gateway.stop, 0)
        yield Fleet(await stack.enter_async_context(open_channel(gateway.address)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Fleet]]:
    """The same writes on every number of shards."""
    batches = writes(random.Random(4))
    async with FakeTriton() as triton, AsyncExitStack() as stack:
        found = []
        for count in SHARD_COUNTS:
            root = tmp_path_factory.mktemp(f"shards-{count}")
            fleet = await stack.enter_async_context(running(root, triton, count))
            await fleet.collections.CreateCollection(
                collection_pb2.CreateCollectionRequest(
                    collection=collection_pb2.Collection(
                        name="words",
                        passaging=collection_pb2.Passaging(max_tokens=16, overlap_tokens=4),
                        sparse_encoder=collection_pb2.ModelVersion(model="sparse_encoder"),
                    )
                ),
                timeout=SECONDS,
            )
            found.append(fleet)
        await asyncio.gather(*(fleet.write(batches) for fleet in found))
        yield found


def text_of(rng: random.Random) -> str:
    """A few words, rare and common ones, often the same as others'; now and then many passages."""
    length = rng.choice([1, 3, 5, 8, 8, 13, 60])
    common = rng.random() < 0.3
    words = [
        WORDS[min(int(rng.expovariate(1 / 6)), 9 if common else len(WORDS) - 1)]
        for _ in range(length)
    ]
    return " ".join(words)


def writes(rng: random.Random) -> list[tuple[dict[str, str], list[str]]]:
    """Batches of documents to store, new ones and later versions, and of ids to delete."""
    ids = [f"d{number:03}" for number in range(DOCUMENTS)]
    rng.shuffle(ids)
    batches: list[tuple[dict[str, str], list[str]]] = [({id: text_of(rng) for id in ids[:140]}, [])]
    stored = ids[:140]
    for start in range(140, DOCUMENTS, 20):
        texts = {id: text_of(rng) for id in ids[start : start + 20] + rng.sample(stored, 8)}
        gone = rng.sample(sorted(set(stored) - texts.keys()), 7)
        stored = [id for id in stored if id not in gone] + ids[start : start + 20]
        batches.append((texts, gone))
    return batches


def queries(rng: random.Random) -> list[str]:
    return [text_of(rng) for _ in range(QUERIES)]


def shown(reply: search_pb2.SearchResponse) -> list[tuple[Any, ...]]:
    """Ids, passages and all numbers of the hits."""
    return [
        (
            hit.document.id,
            hit.score,
            hit.passage.start_byte,
            hit.provenance.fused_score,
            *(
                (place.rank, place.score, place.contribution)
                for place in (getattr(hit.provenance, leg) for leg in LEGS)
            ),
        )
        for hit in reply.hits
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_rankings_do_not_depend_on_the_number_of_shards(fleets: list[Fleet]) -> None:
    methods = [method for method in ranking_pb2.FusionMethod.values() if method]
    different = []
    for number, query in enumerate(queries(random.Random(5))):
        fields: dict[str, Any] = {
            "page_size": 25,
            "window": 25,
            "fusion": ranking_pb2.Fusion(method=methods[number % len(methods)]),
            "rerank": ranking_pb2.Rerank(enabled=number % 10 == 0),
        }
        replies = [await fleet.ask(query, **fields) for fleet in fleets]
        first, *others = [shown(reply) for reply in replies]
        assert first
        if any(other != first for other in others):
            different.append(query)

    assert different == []
