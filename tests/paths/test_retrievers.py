"""Retrievers of other frameworks, with these frameworks, against a family."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio

from core.rpc import reason_of
from deploy.integrations.searching import Options, Searcher
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import document_pb2

QUERY = "ship with sails"


@pytest_asyncio.fixture
async def ships(family: Family, collection: str) -> str:
    """A collection of three documents that searches see."""
    documents = [
        document_pb2.Document(
            id="sails",
            title="Sails",
            text="ship with sails",
            attributes={
                "year": document_pb2.AttributeValue(number_value=1850),
                "tags": document_pb2.AttributeValue(
                    strings_value=document_pb2.StringList(values=["wind", "sea"])
                ),
            },
        ),
        document_pb2.Document(id="oars", text="ship with oars"),
        document_pb2.Document(id="salt", text="a tax on salt"),
    ]
    reply = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=collection, documents=documents),
        timeout=SECONDS,
    )
    await family.search(collection, QUERY, min_position=reply.position)
    return collection


async def expected_ids(family: Family, collection: str) -> list[str]:
    reply = await family.search(collection, QUERY, page_size=2)
    return [hit.document.id for hit in reply.hits]


@pytest.mark.usefixtures("quiet_libraries")
async def test_langchain_finds_what_a_search_finds(family: Family, ships: str) -> None:
    langchain = pytest.importorskip("deploy.integrations.langchain", exc_type=ImportError)
    retriever = langchain.TriremeRetriever(
        address=family.cluster.address, collection=ships, k=2, seconds=SECONDS
    )

    found = await retriever.ainvoke(QUERY)
    also = await asyncio.to_thread(retriever.invoke, QUERY)

    assert [each.id for each in found] == await expected_ids(family, ships)
    assert [each.id for each in also] == [each.id for each in found]
    best = found[0]
    assert best.page_content == "ship with sails"
    assert (best.metadata["title"], best.metadata["year"]) == ("Sails", 1850)
    assert best.metadata["tags"] == ["wind", "sea"]
    assert best.metadata["provenance"]["lexical"]["rank"] == 1
    assert best.metadata["degraded"] == []


@pytest.mark.usefixtures("quiet_libraries")
async def test_llama_index_finds_what_a_search_finds(family: Family, ships: str) -> None:
    llama_index = pytest.importorskip("deploy.integrations.llama_index", exc_type=ImportError)
    retriever = llama_index.TriremeRetriever(
        family.cluster.address, ships, similarity_top_k=2, seconds=SECONDS
    )

    found = await retriever.aretrieve(QUERY)
    also = await asyncio.to_thread(retriever.retrieve, QUERY)

    assert [each.node.id_ for each in found] == await expected_ids(family, ships)
    assert [each.node.id_ for each in also] == [each.node.id_ for each in found]
    assert found[0].score > found[1].score
    shown = found[0].node.get_content(metadata_mode="llm")
    assert "year: 1850" in shown
    assert "provenance" not in shown


@pytest.mark.usefixtures("quiet_libraries")
async def test_haystack_finds_what_a_search_finds(
    family: Family, ships: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    haystack = pytest.importorskip("deploy.integrations.haystack", exc_type=ImportError)
    from haystack import Pipeline

    retriever = haystack.TriremeRetriever(
        family.cluster.address, ships, top_k=2, mode="lexical", seconds=SECONDS
    )
    pipeline = Pipeline()
    pipeline.add_component("search", retriever)
    # As it would be written to a file and read back.
    written = pipeline.to_dict()
    again = Pipeline.from_dict(written, allowed_modules=["deploy.integrations.haystack"])

    reply = await asyncio.to_thread(again.run, {"search": {"query": QUERY}})
    direct = await retriever.run_async(query=QUERY, top_k=1)

    assert [each.id for each in reply["search"]["documents"]] == ["sails", "oars"]
    assert [each.id for each in direct["documents"]] == ["sails"]
    assert direct["documents"][0].meta["year"] == 1850


async def test_a_filter_and_a_mode_are_handed_on(family: Family, ships: str) -> None:
    options = Options(filter="year = 1850", mode="dense", rerank=False, seconds=SECONDS)
    searcher = Searcher(family.cluster.address, ships, "", options)

    (found,) = await searcher.search_async("a tax on salt", 10)
    searcher.close()

    assert found.id == "sails"
    assert set(found.metadata["provenance"]) >= {"dense"}
    assert "lexical" not in found.metadata["provenance"]


async def test_the_passage_is_shown_unless_the_document_is_wanted(
    family: Family, collection: str
) -> None:
    text = "oars " * 400 + "sails " * 100
    await family.search(collection, "x", min_position=await family.put(collection, long=text))
    texts = []
    for whole in (False, True):
        options = Options(whole_documents=whole, mode="dense", rerank=False, seconds=SECONDS)
        searcher = Searcher(family.cluster.address, collection, "", options)
        (found,) = await searcher.search_async("sails", 1)
        searcher.close()
        texts.append(found.text)

    passage, document = texts
    assert document == text
    assert len(passage) < len(text)
    assert passage in text


async def test_a_degraded_search_says_so(family: Family, ships: str) -> None:
    family.triton.set_fault("unhealthy")
    searcher = Searcher(family.cluster.address, ships, "", Options(seconds=SECONDS))

    found = await searcher.search_async(QUERY, 1)
    searcher.close()

    assert any(each.startswith("STAGE_RERANK: ") for each in found[0].metadata["degraded"])


async def test_a_refused_search_raises_with_its_reason(family: Family) -> None:
    searcher = Searcher(family.cluster.address, "nowhere", "", Options(seconds=SECONDS))

    with pytest.raises(grpc.RpcError) as refused:
        await searcher.search_async(QUERY, 1)
    searcher.close()

    assert reason_of(refused.value) == "COLLECTION_NOT_FOUND"


async def test_a_cancelled_search_ends_the_call(family: Family, ships: str) -> None:
    family.triton.set_fault("hang")
    searcher: Any = Searcher(family.cluster.address, ships, "", Options(seconds=SECONDS))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await searcher.search_async(QUERY, 1)
    searcher.close()


def test_a_mode_that_there_is_not_is_refused_at_once() -> None:
    options: Any = {"mode": "psychic"}

    with pytest.raises(ValueError, match="hybrid, dense, lexical, sparse"):
        Searcher("127.0.0.1:1", "ships", "", options)
