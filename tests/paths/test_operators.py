"""Operators in a query hold in every leg, are echoed, and explain why a document is not there."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from tests.paths.walking import hits, walk
from trireme.v1 import collection_pb2, document_pb2, lexical_pb2, search_pb2

OPERATORS = lexical_pb2.QUERY_SYNTAX_OPERATORS
TEXTS = {
    "a": "Whales are sailing with old ships.",
    "b": "An old whale, no ship.",
    "c": "Ships and whales; old ones.",
    "d": "Rain.",
}
LEGS = ["DENSE", "LEXICAL"]


def ids(reply: search_pb2.SearchResponse) -> set[str]:
    return {hit.document.id for hit in reply.hits}


@pytest.mark.parametrize("mode", LEGS)
async def test_what_is_required_and_excluded_holds_in_every_leg(
    family: Family, collection: str, mode: str
) -> None:
    position = await family.put(collection, **TEXTS)
    fields: dict[str, Any] = {
        "query_syntax": OPERATORS,
        "mode": f"SEARCH_MODE_{mode}",
        "min_position": position,
    }

    required = await family.search(collection, "whale +ship", **fields)
    phrase = await family.search(collection, '"old ships"', **fields)
    excluded = await family.search(collection, 'whale -sail -"no ship"', **fields)

    assert ids(required) == {"a", "b", "c"}
    assert ids(phrase) == {"a"}
    assert ids(excluded) == {"c"} | ({"d"} if mode == "DENSE" else set())
    assert [list(reply.degraded) for reply in (required, phrase, excluded)] == [[], [], []]


async def test_what_was_understood_is_echoed(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)

    reply = await family.search(
        collection, '+old whale -"no ship" "x', min_position=position, query_syntax=OPERATORS
    )
    plain = await family.search(collection, '+old whale -"no ship" "x')

    assert reply.understood == lexical_pb2.UnderstoodQuery(
        text='old whale  "x', required=["old"], excluded=["no ship"]
    )
    assert ids(reply) == {"a", "c"}
    assert not plain.HasField("understood")
    assert ids(plain) == set(TEXTS)


async def test_without_operators_the_answer_is_that_of_plain_words(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)

    for query in ("old whale", "-whale -ship", '"', "rain + whale"):
        plain = await family.search(collection, query, min_position=position)
        read = await family.search(collection, query, query_syntax=OPERATORS)

        assert [(hit.document.id, hit.score) for hit in read.hits] == [
            (hit.document.id, hit.score) for hit in plain.hits
        ]


async def test_pages_and_marks_keep_to_the_operators(family: Family, collection: str) -> None:
    texts = {f"d{n:02}": "whale ship" if n % 2 else "whale raft" for n in range(20)}
    position = await family.put(collection, **texts)

    pages = await walk(
        family,
        collection,
        "whale +ship -sail",
        min_position=position,
        page_size=4,
        highlight=True,
        query_syntax=OPERATORS,
    )

    found = hits(pages)
    assert sorted(hit.document.id for hit in found) == [f"d{n:02}" for n in range(1, 20, 2)]
    assert all(len(hit.highlights) == 2 for hit in found)
    assert all(page.understood.excluded == ["sail"] for page in pages)


async def test_an_explanation_names_what_excludes_a_document(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    search = search_pb2.SearchRequest(
        collection=collection,
        query='whale +ship -"no ship"',
        query_syntax=OPERATORS,
        min_position=position,
    )

    async def explain(id: str) -> search_pb2.ExplainHitResponse:
        request = search_pb2.ExplainHitRequest(search=search, document_id=id)
        reply: search_pb2.ExplainHitResponse = await family.searches.ExplainHit(
            request, timeout=SECONDS
        )
        return reply

    hit, held, lacking = await explain("a"), await explain("b"), await explain("d")

    assert hit.outcome == search_pb2.HIT_OUTCOME_RETURNED
    assert (held.outcome, held.stage) == (
        search_pb2.HIT_OUTCOME_EXCLUDED,
        search_pb2.STAGE_FILTER,
    )
    assert held.message == 'it holds "no ship", which is excluded'
    assert lacking.message == 'it does not hold "ship", which is required'


async def test_an_unknown_syntax_is_refused(family: Family, collection: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await family.search(collection, "whale", query_syntax=99)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "OUT_OF_RANGE"


@pytest.fixture
async def german(family: Family, collection: str) -> str:
    return await create(family, f"{collection}-de", language="de-AT", title_boost=2)


@pytest.fixture
async def chinese(family: Family, collection: str) -> str:
    return await create(family, f"{collection}-cjk", language="zh")


async def create(family: Family, name: str, **lexical: object) -> str:
    settings = lexical_pb2.LexicalSettings(**lexical)  # type: ignore[arg-type]
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=name, lexical=settings)
        ),
        timeout=SECONDS,
    )
    return name


async def test_a_collection_finds_words_of_its_language(family: Family, german: str) -> None:
    documents = [
        document_pb2.Document(id="a", title="Das Haus", text="steht am See und ist sehr alt"),
        document_pb2.Document(id="b", title="Der See", text="liegt bei den größeren Häusern"),
    ]
    reply = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=german, documents=documents),
        timeout=SECONDS,
    )

    houses = await family.search(
        german, "die Hauses", mode="SEARCH_MODE_LEXICAL", min_position=reply.position
    )
    lakes = await family.search(german, "der See", mode="SEARCH_MODE_LEXICAL")
    got = await family.collections.GetCollection(
        collection_pb2.GetCollectionRequest(name=german), timeout=SECONDS
    )

    assert [hit.document.id for hit in houses.hits] == ["a", "b"], "the title counts three times"
    assert [hit.document.id for hit in lakes.hits] == ["b", "a"]
    assert got.collection.lexical == lexical_pb2.LexicalSettings(language="de", title_boost=2)


async def test_chinese_is_found_and_marked_without_blanks(family: Family, chinese: str) -> None:
    text = "我住在東京都，用 iPhone。"
    position = await family.put(chinese, a=text, b="京都 is not 東")

    reply = await family.search(
        chinese,
        '"東京都" iphone',
        mode="SEARCH_MODE_LEXICAL",
        min_position=position,
        highlight=True,
        query_syntax=OPERATORS,
    )

    (hit,) = reply.hits
    marked = [text.encode()[s.start_byte : s.end_byte].decode() for s in hit.highlights]
    assert (hit.document.id, marked) == ("a", ["東京都", "iPhone"])


async def test_an_unknown_language_is_refused_and_words_cannot_be_changed(
    family: Family, collection: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await create(family, f"{collection}-x", language="tlh")
    with pytest.raises(grpc.aio.AioRpcError) as fixed:
        await family.collections.UpdateCollection(
            collection_pb2.UpdateCollectionRequest(
                collection=collection_pb2.Collection(name=collection),
                update_mask=field_mask_pb2.FieldMask(paths=["lexical.language"]),
            ),
            timeout=SECONDS,
        )

    assert (unknown.value.code(), reason_of(unknown.value)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "OUT_OF_RANGE",
    )
    assert reason_of(fixed.value) == "MALFORMED"
    assert "every document was split by it" in (fixed.value.details() or "")
