"""The same request on the same generations gets the same answer, alone and in a crowd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from tests.paths.conftest import SECONDS, Client, Family
from tests.paths.test_real_models import started
from tests.paths.test_search import ids
from trireme.v1 import collection_pb2, document_pb2, search_pb2

TEXTS = {
    f"d{number:02}": f"{subject} {verb} {thing}"
    for number, (subject, verb, thing) in enumerate(
        (subject, verb, thing)
        for subject in ("a galley", "the frigate", "some rafts")
        for verb in ("carries", "sinks with", "is older than")
        for thing in ("oarsmen and oil", "forty guns", "logs of pine")
    )
}
QUERIES = ("oil and oarsmen", "guns on a frigate", "which rafts sink?", "old pine logs")
CROWD = 6
LOGIT_STEP = 0.001


@dataclass(frozen=True)
class Caller(Client):
    """A client of a gateway."""

    channel: grpc.aio.Channel


def lasting(reply: search_pb2.SearchResponse) -> bytes:
    """What must be the same, serialised."""
    kept = search_pb2.SearchResponse()
    kept.CopyFrom(reply)
    for name in ("timings", "total_microseconds", "next_page_token", "page_expire_time"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def document(id: str, text: str) -> document_pb2.Document:
    found = document_pb2.Document(id=id, text=text)
    for name in ("one", "two", "three", "four"):
        found.attributes[name].string_value = f"{name} of {id}"
    return found


async def put(client: Client, collection: str) -> document_pb2.Position:
    reply = await client.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(
            collection=collection, documents=[document(*item) for item in TEXTS.items()]
        ),
        timeout=SECONDS,
    )
    position: document_pb2.Position = reply.position
    return position


async def crowd(client: Client, collection: str) -> list[tuple[str, search_pb2.SearchResponse]]:
    """Every query several times, as many at once as are never refused."""
    queries = QUERIES * CROWD
    at_once = asyncio.Semaphore(8)

    async def ask(query: str) -> search_pb2.SearchResponse:
        async with at_once:
            return await client.search(collection, query)

    replies = await asyncio.gather(*map(ask, queries))
    return list(zip(queries, replies, strict=True))


@pytest.mark.parametrize(
    "fields", [{}, {"group_by": "one"}, {"highlight": True}], ids=["hits", "groups", "marks"]
)
async def test_a_request_gets_the_same_bytes_again(
    family: Family, collection: str, fields: dict[str, Any]
) -> None:
    position = await put(family, collection)
    fields = {**fields, "min_position": position}

    first = await family.search(collection, QUERIES[0], **fields)
    again = [await family.search(collection, QUERIES[0], **fields) for _ in range(5)]

    assert not first.degraded
    assert {lasting(reply) for reply in again} == {lasting(first)}


async def test_a_request_gets_the_same_bytes_in_a_crowd(family: Family, collection: str) -> None:
    position = await put(family, collection)
    alone = {
        query: lasting(await family.search(collection, query, min_position=position))
        for query in QUERIES
    }

    answers = await crowd(family, collection)

    assert all(lasting(reply) == alone[query] for query, reply in answers)


@pytest.fixture(scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A cluster with a real Triton and the shipped models, which remembers no embedding."""
    config = ClusterConfig(
        state=tmp_path_factory.mktemp("same") / "state",
        shards=2,
        port=0,
        settings={"gateway": {"embedding_cache_megabytes": 0}},
    )
    cluster = await Cluster.create(config)
    try:
        await started(cluster)
        async with open_channel(cluster.address) as channel:
            yield Caller(channel)
    finally:
        await cluster.stop(5.0)


@pytest.mark.triton
async def test_batches_of_a_real_model_do_not_change_the_ranking(real: Client) -> None:
    await real.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name="ships")),
        timeout=SECONDS,
    )
    position = await put(real, "ships")
    alone = {query: await real.search("ships", query, min_position=position) for query in QUERIES}

    answers = [(query, reply) for query, reply in await crowd(real, "ships") if not reply.degraded]

    assert not any(reply.degraded for reply in alone.values())
    assert answers
    for query, reply in answers:
        assert ids(reply) == ids(alone[query])
        for hit, other in zip(reply.hits, alone[query].hits, strict=True):
            one, two = hit.provenance, other.provenance
            assert one.rerank_logit == pytest.approx(two.rerank_logit, abs=1.5 * LOGIT_STEP)
            assert one.dense.score == pytest.approx(two.dense.score, abs=1e-5)
            assert one.lexical == two.lexical
