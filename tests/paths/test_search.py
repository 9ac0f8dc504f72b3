"""Documents go in and come out again, through every role."""

from __future__ import annotations

from typing import Any, Literal

import grpc
import pytest

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2, inference_pb2, ranking_pb2, search_pb2

Leg = Literal["dense", "lexical"]

SHIPS = {
    "galley": "a galley is rowed by many oarsmen",
    "frigate": "a frigate is a warship under sail",
    "raft": "a raft is made of logs",
    "kayak": "a kayak is paddled by one person",
}


def ids(reply: search_pb2.SearchResponse) -> list[str]:
    return [hit.document.id for hit in reply.hits]


async def test_a_write_is_found_by_both_legs(family: Family, collection: str) -> None:
    position = await family.put(collection, **SHIPS)

    reply = await family.search(collection, "rowed by oarsmen", min_position=position)

    assert ids(reply)[0] == "galley"
    assert not reply.degraded
    why = reply.hits[0].provenance
    assert (why.dense.rank, why.lexical.rank, why.fused_rank) == (1, 1, 1)
    assert why.fused_score == pytest.approx(1 / (60 + 1) + 1 / (60 + 1))
    assert why.HasField("rerank_logit")


async def test_the_reply_says_what_was_done(family: Family, collection: str) -> None:
    position = await family.put(collection, **SHIPS)

    reply = await family.search(collection, "warship under sail", min_position=position)

    stages = [search_pb2.Stage.Name(t.stage) for t in reply.timings]
    assert set(stages) == {
        "STAGE_WAIT",
        "STAGE_ENCODE",
        "STAGE_STATISTICS",
        "STAGE_LEXICAL",
        "STAGE_DENSE",
        "STAGE_FUSE",
        "STAGE_FETCH",
        "STAGE_RERANK",
    }
    assert all(0 <= t.start_microseconds <= reply.total_microseconds for t in reply.timings)
    assert [shard.complete for shard in reply.shards] == [True, True]
    assert (reply.encoder.model, reply.encoder.version) == ("bi_encoder", "1")
    assert reply.reranker.model == "cross_encoder"
    assert reply.rerank.depth == len(reply.hits)
    assert (reply.fusion.k, reply.fusion.dense_weight) == (60, 1)


async def test_the_legs_run_side_by_side(family: Family, collection: str) -> None:
    position = await family.put(collection, **SHIPS)

    reply = await family.search(collection, "logs", min_position=position)

    start = {t.stage: t.start_microseconds for t in reply.timings}
    end = {t.stage: t.start_microseconds + t.microseconds for t in reply.timings}
    assert start[search_pb2.STAGE_STATISTICS] < end[search_pb2.STAGE_ENCODE]
    assert start[search_pb2.STAGE_ENCODE] < end[search_pb2.STAGE_LEXICAL]


async def test_documents_are_spread_over_the_shards(family: Family, collection: str) -> None:
    texts = {f"d{n}": f"number {n} word" for n in range(20)}
    position = await family.put(collection, **texts)

    reply = await family.search(collection, "word", page_size=20, min_position=position)

    assert sorted(ids(reply)) == sorted(texts)
    assert {hit.provenance.shard for hit in reply.hits} == {0, 1}


async def test_an_update_replaces_and_a_delete_removes(family: Family, collection: str) -> None:
    await family.put(collection, **SHIPS)
    await family.put(collection, raft="an inflatable boat of rubber")
    position = await family.delete(collection, "galley")
    update = await family.put(collection, kayak="rubber")
    position.shards.extend(update.shards)

    reply = await family.search(collection, "rubber", min_position=position)

    texts = {hit.document.id: hit.document.text for hit in reply.hits}
    assert texts["raft"] == "an inflatable boat of rubber"
    assert texts["kayak"] == "rubber"
    assert "galley" not in texts
    versions = {hit.document.id: hit.document.version for hit in reply.hits}
    assert (versions["raft"], versions["frigate"]) == (2, 1)


@pytest.mark.parametrize(
    ("mode", "present", "absent"),
    [
        (search_pb2.SEARCH_MODE_DENSE, "dense", "lexical"),
        (search_pb2.SEARCH_MODE_LEXICAL, "lexical", "dense"),
    ],
)
async def test_one_leg_alone(
    family: Family,
    collection: str,
    mode: search_pb2.SearchMode.ValueType,
    present: Leg,
    absent: Leg,
) -> None:
    position = await family.put(collection, **SHIPS)

    reply = await family.search(
        collection,
        "raft logs",
        mode=mode,
        min_position=position,
        rerank=ranking_pb2.Rerank(enabled=False),
    )

    why = reply.hits[0].provenance
    assert ids(reply)[0] == "raft"
    assert why.HasField(present)
    assert not why.HasField(absent)
    assert not why.HasField("rerank_logit")


async def test_the_best_passage_of_a_long_text_is_named(family: Family, collection: str) -> None:
    filler = "the sea is wide and the wind is strong. " * 60
    text = f"{filler}zebras graze quietly. {filler}"
    position = await family.put(collection, long=text, other="a short text")

    reply = await family.search(collection, "zebras graze quietly", min_position=position)

    hit = reply.hits[0]
    assert hit.document.id == "long"
    passage = text.encode()[hit.passage.start_byte : hit.passage.end_byte]
    assert b"zebras" in passage
    assert len(passage) < len(text)


async def test_attributes_come_back_as_they_went_in(family: Family, collection: str) -> None:
    document = document_pb2.Document(id="a", title="Title", text="some text")
    document.attributes["lang"].string_value = "en"
    document.attributes["year"].number_value = 2020.5
    document.attributes["draft"].bool_value = False
    document.attributes["when"].timestamp_value.FromJsonString("2026-01-31T12:00:00Z")
    document.attributes["tags"].strings_value.values.extend(["x", "y"])
    written = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=collection, documents=[document]),
        timeout=SECONDS,
    )

    reply = await family.search(collection, "text", min_position=written.position)
    stored = await family.documents.GetDocument(
        document_pb2.GetDocumentRequest(collection=collection, id="a"), timeout=SECONDS
    )

    assert reply.hits[0].document.attributes == document.attributes
    assert stored.document.attributes == document.attributes
    assert reply.hits[0].document == stored.document


async def test_a_collection_lives_and_dies(family: Family, collection: str) -> None:
    listed = await family.collections.ListCollections(
        collection_pb2.ListCollectionsRequest(), timeout=SECONDS
    )
    assert collection in [c.name for c in listed.collections]
    empty = await family.search(collection, "anything")
    assert not empty.hits
    assert not empty.degraded

    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=collection), timeout=SECONDS
    )

    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await family.search(collection, "anything")
    assert reason_of(gone.value) == "COLLECTION_NOT_FOUND"
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=collection)
        ),
        timeout=SECONDS,
    )
    assert not (await family.search(collection, "anything")).hits


async def test_the_models_can_be_used_alone(family: Family) -> None:
    embedded = await family.inference.Embed(
        inference_pb2.EmbedRequest(texts=["a raft", "a raft", "x " * 600]), timeout=SECONDS
    )
    ranked = await family.inference.Rerank(
        inference_pb2.RerankRequest(query="raft", passages=["a kayak", "a raft"], top_k=1),
        timeout=SECONDS,
    )

    first, second, long = embedded.embeddings
    assert first.values == second.values
    assert sum(v * v for v in first.values) == pytest.approx(1, abs=1e-5)
    assert (first.truncated, long.truncated, long.token_count) == (False, True, 256)
    assert [passage.index for passage in ranked.passages] == [1]


@pytest.mark.parametrize("mode", [search_pb2.SEARCH_MODE_HYBRID, search_pb2.SEARCH_MODE_DENSE])
async def test_documents_that_came_with_the_dense_leg_are_those_that_a_fetch_gives(
    family: Family, collection: str, mode: search_pb2.SearchMode
) -> None:
    position = await family.put(collection, **SHIPS)
    asked: dict[str, Any] = {"mode": mode, "min_position": position}

    guessed = await family.search(collection, "rowed by oarsmen", page_size=4, **asked)
    # So long a page is never guessed.
    fetched = await family.search(collection, "rowed by oarsmen", page_size=100, **asked)

    assert len(guessed.hits) == len(SHIPS)
    assert list(guessed.hits) == list(fetched.hits)
