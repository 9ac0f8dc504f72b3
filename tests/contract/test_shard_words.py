"""What a shard says about words: their statistics, where they stand, and attributes beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
import pytest_asyncio

from core.rpc import open_channel, reason_of
from shard.config import ShardConfig
from shard.server import Shard
from tests.fakes.asking import ask
from tests.fakes.publisher import Publisher, embed
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

SECONDS = 20.0
Stub: TypeAlias = "shard_pb2_grpc.ShardServiceAsyncStub"


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path / "index")
    publisher.put("galley", "rowed by oarsmen\nslow, über heavy oars", title="The rowed galley")
    publisher.put("raft", "made of logs", attributes={"crew": 2.0, "tags": ("flat", "wet")})
    publisher.put("wreck", "logs and oars")
    publisher.publish()
    publisher.delete("wreck")
    publisher.publish()
    return publisher


@pytest_asyncio.fixture
async def stub(tmp_path: Path, publisher: Publisher) -> AsyncIterator[Stub]:
    shard = await Shard.create(ShardConfig(shard=0, index_directory=tmp_path / "index"))
    await shard.start()
    async with open_channel(shard.address) as channel:
        yield shard_pb2_grpc.ShardServiceStub(channel)
    await shard.stop(0)


async def lexical(stub: Stub, query: str, **fields: Any) -> shard_pb2.SearchLexicalResponse:
    request = shard_pb2.SearchLexicalRequest(collection="ships", query=query, limit=10, **fields)
    found: shard_pb2.SearchLexicalResponse = await ask(stub, "search_lexical", request)
    return found


async def count(stub: Stub, query: str) -> shard_pb2.CountTermsResponse:
    request = shard_pb2.CountTermsRequest(collection="ships", query=query)
    found: shard_pb2.CountTermsResponse = await ask(stub, "count_terms", request)
    return found


async def fetch(stub: Stub, *ids: str, **fields: Any) -> list[shard_pb2.FetchedDocument]:
    request = shard_pb2.FetchRequest(collection="ships", ids=ids, **fields)
    return list((await ask(stub, "fetch", request)).documents)


async def test_words_are_counted_in_live_documents(stub: Stub) -> None:
    found = await count(stub, "the logs of oars, oars")

    assert found.statistics == shard_pb2.LexicalStatistics(
        document_count=2,
        total_length=(3 + 3 + 4) + 3,
        terms=["log", "oar"],
        document_frequencies=[1, 1],
    )
    assert found.generation.generation == 2


async def test_without_statistics_a_shard_scores_by_its_own(stub: Stub) -> None:
    own = (await count(stub, "logs rowed")).statistics

    alone, told = (
        await lexical(stub, "logs rowed"),
        await lexical(stub, "logs rowed", statistics=own),
    )

    assert alone.ranking == told.ranking
    assert sorted(alone.ranking.ids) == ["galley", "raft"]


async def test_scores_are_by_the_statistics_given(stub: Stub) -> None:
    statistics = (await count(stub, "logs")).statistics
    (before,) = (await lexical(stub, "logs", statistics=statistics)).ranking.scores
    statistics.document_count += 1000
    statistics.total_length += 1000 * statistics.total_length // 2

    (after,) = (await lexical(stub, "logs", statistics=statistics)).ranking.scores

    assert after > before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"terms": ["log", "log"]}, "MALFORMED"),
        ({"terms": ["log"]}, "MALFORMED"),
        ({"terms": ["log", "raft"]}, "MALFORMED"),
        ({"document_frequencies": [1, 3]}, "OUT_OF_RANGE"),
        ({"document_frequencies": [1, -1]}, "OUT_OF_RANGE"),
        ({"total_length": 1}, "OUT_OF_RANGE"),
    ],
)
async def test_statistics_that_do_not_fit_are_refused(
    stub: Stub, changes: dict[str, Any], reason: str
) -> None:
    fields: dict[str, Any] = {
        "document_count": 2,
        "total_length": 13,
        "terms": ["log", "oar"],
        "document_frequencies": [1, 1],
    }
    statistics = shard_pb2.LexicalStatistics(**{**fields, **changes})

    with pytest.raises(grpc.RpcError) as caught:
        await lexical(stub, "logs oars", statistics=statistics)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == reason


async def test_the_words_asked_for_are_marked_in_title_and_best_passage(stub: Stub) -> None:
    vector = embed("slow, über heavy oars").tobytes()

    (galley,) = await fetch(
        stub, "galley", vector=vector, highlight="the OAR of a rower, heavy rowed"
    )

    text = "rowed by oarsmen\nslow, über heavy oars".encode()
    assert text[galley.start_byte : galley.end_byte].decode() == "slow, über heavy oars"
    spans = zip(galley.highlights[::2], galley.highlights[1::2], strict=True)
    assert [text[first:end].decode() for first, end in spans] == ["heavy", "oars"]
    assert list(galley.title_highlights) == [len("The "), len("The rowed")]


async def test_stop_words_are_marked_if_the_query_has_nothing_else(stub: Stub) -> None:
    (galley,) = await fetch(stub, "galley", highlight="the")

    assert list(galley.title_highlights) == [0, len("The")]


async def test_nothing_is_marked_unasked_or_by_a_query_without_words(stub: Stub) -> None:
    for highlight in ("", "?!"):
        (galley,) = await fetch(stub, "galley", highlight=highlight)
        assert (list(galley.highlights), list(galley.title_highlights)) == ([], [])


async def test_one_attribute_is_read_in_the_order_of_the_ids(stub: Stub) -> None:
    async def read(attribute: str) -> list[str | None]:
        request = shard_pb2.ReadAttributeRequest(
            collection="ships", ids=["wreck", "raft", "galley"], attribute=attribute
        )
        reply = await ask(stub, "read_attribute", request)
        assert reply.generation.generation == 2
        return [value.WhichOneof("kind") for value in reply.values]

    assert [kind is not None for kind in await read("crew")] == [False, True, False]
    assert [kind is not None for kind in await read("tags")] == [False, True, False]
    assert await read("nothing") == [None, None, None]
