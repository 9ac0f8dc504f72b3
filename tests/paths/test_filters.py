"""Filters through every role: what is found, what is said about it, what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.documents import AttributeValue
from core.filters.parsing import MAX_BYTES, MAX_CLAUSES, MAX_NESTING
from core.rpc import reason_of
from core.wire import value_to_proto
from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import trireme
from tests.paths.test_search import ids
from tests.paths.walking import hits, walk
from trireme.v1 import collection_pb2, document_pb2, filter_pb2, search_pb2

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SHIPS: dict[str, tuple[str, Mapping[str, AttributeValue]]] = {
    "galley": ("a ship rowed by many", {"year": 1500.0, "tags": ("oar", "war"), "lost": True}),
    "frigate": ("a ship under sail for war", {"year": 1700.0, "tags": ("sail", "war")}),
    "raft": ("a ship made of logs", {"year": 1947.0, "lost": False, "seen": MOMENT}),
    "kayak": ("a ship for one", {"tags": ("oar",), "lost": False}),
}


async def put(
    family: Family, collection: str, ships: Mapping[str, tuple[str, Mapping[str, AttributeValue]]]
) -> document_pb2.Position:
    documents = [
        document_pb2.Document(
            id=id,
            text=text,
            attributes={name: value_to_proto(value) for name, value in attributes.items()},
        )
        for id, (text, attributes) in ships.items()
    ]
    request = document_pb2.UpsertDocumentsRequest(collection=collection, documents=documents)
    reply = await family.documents.UpsertDocuments(request, timeout=SECONDS)
    position: document_pb2.Position = reply.position
    return position


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year < 1800 AND lost", {"galley"}),
        ("tags : war OR id = kayak", {"galley", "frigate", "kayak"}),
        ("NOT lost", {"frigate", "raft", "kayak"}),
        ("seen >= 2026-01-31T00:00:00Z", {"raft"}),
        ("year != 1947", {"galley", "frigate", "kayak"}),
        ("year > 3000", set()),
    ],
)
async def test_only_what_matches_is_found(
    family: Family, collection: str, text: str, expected: set[str]
) -> None:
    position = await put(family, collection, SHIPS)

    for mode in (
        search_pb2.SEARCH_MODE_HYBRID,
        search_pb2.SEARCH_MODE_DENSE,
        search_pb2.SEARCH_MODE_LEXICAL,
    ):
        reply = await family.search(
            collection, "ship", filter=text, mode=mode, min_position=position
        )

        assert set(ids(reply)) == expected
        assert not reply.degraded


async def test_a_filter_at_its_limits_is_understood_by_every_role(
    family: Family, collection: str
) -> None:
    """Written out with all its parentheses and blanks it would be over them."""
    position = await put(family, collection, SHIPS)
    inner = "lost year>1 OR lost year>2 OR lost"
    text = "-(" * MAX_NESTING + inner + ")" * MAX_NESTING
    text += " lost" * (MAX_CLAUSES - 6) + " id="
    text += "*" * (MAX_BYTES - len(text))

    reply = await family.search(collection, "ship", filter=text, min_position=position)

    assert len(text.encode()) == MAX_BYTES
    assert ids(reply) == ["galley"]
    assert not reply.degraded


async def test_the_plan_is_echoed(family: Family, collection: str) -> None:
    position = await put(family, collection, SHIPS)

    reply = await family.search(
        collection, "sail", filter=" tags:war  -lost ", min_position=position
    )

    plan = reply.filter_plan
    assert plan.expression == "tags : war AND NOT lost"
    for leg in (plan.dense, plan.lexical):
        assert (leg.matching_count, leg.document_count) == (1, len(SHIPS))
        assert leg.strategies == [filter_pb2.FILTER_STRATEGY_EXACT]
        assert not leg.shortfall
    assert not plan.HasField("sparse")
    without = await family.search(collection, "sail")
    assert not without.HasField("filter_plan")


async def test_a_leg_that_finds_fewer_than_match_says_why(family: Family, collection: str) -> None:
    position = await put(family, collection, SHIPS)

    reply = await family.search(collection, "logs", filter="lost : *", min_position=position)

    assert reply.filter_plan.lexical.matching_count == 3
    assert reply.filter_plan.lexical.shortfall == ("only 1 of them hold any of the query's words")
    assert not reply.filter_plan.dense.shortfall
    assert set(ids(reply)) == {"galley", "raft", "kayak"}


async def test_scores_of_words_are_those_without_the_filter(
    family: Family, collection: str
) -> None:
    position = await put(family, collection, SHIPS)
    fields: dict[str, Any] = {"mode": search_pb2.SEARCH_MODE_LEXICAL, "min_position": position}

    everything = await family.search(collection, "ship war", **fields)
    some = await family.search(collection, "ship war", filter="year > 1600", **fields)

    score = {hit.document.id: hit.provenance.lexical.score for hit in everything.hits}
    assert {hit.document.id for hit in some.hits} == {"frigate", "raft"}
    for hit in some.hits:
        assert hit.provenance.lexical.score == score[hit.document.id]


async def test_pages_groups_and_highlights_keep_to_the_filter(
    family: Family, collection: str
) -> None:
    ships: dict[str, tuple[str, Mapping[str, AttributeValue]]] = {
        f"d{n:02}": (f"ship number {n}", {"even": n % 2 == 0, "n": float(n)}) for n in range(30)
    }
    position = await put(family, collection, ships)

    pages = await walk(
        family,
        collection,
        "ship",
        page_size=4,
        filter="even AND n < 20",
        highlight=True,
        min_position=position,
    )

    found = hits(pages)
    assert sorted(hit.document.id for hit in found) == [f"d{n:02}" for n in range(0, 20, 2)]
    assert all(hit.highlights for hit in found)
    assert [page.HasField("filter_plan") for page in pages] == [True, False, False]
    grouped = await family.search(
        collection, "ship", filter="n < 3", group_by="even", group_size=5, page_size=5
    )
    assert sorted(group.size for group in grouped.groups) == [1, 2]


async def test_a_batch_has_a_filter_for_each(family: Family, collection: str) -> None:
    position = await put(family, collection, SHIPS)
    searches = [
        search_pb2.SearchRequest(
            collection=collection, query="ship", filter=text, min_position=position
        )
        for text in ("lost", "NOT lost", "lots", "lost >")
    ]

    reply = await family.searches.BatchSearch(
        search_pb2.BatchSearchRequest(requests=searches), timeout=SECONDS
    )

    outcomes = reply.outcomes
    assert [len(outcome.response.hits) for outcome in outcomes[:2]] == [1, 3]
    assert [outcome.error.reason for outcome in outcomes[2:]] == ["INVALID_FILTER"] * 2
    assert [outcome.error.field for outcome in outcomes[2:]] == [
        "requests[2].filter",
        "requests[3].filter",
    ]
    assert "did you mean lost" in outcomes[2].error.message


async def test_what_no_document_has_is_refused_with_near_names(
    family: Family, collection: str
) -> None:
    position = await put(family, collection, SHIPS)
    await family.search(collection, "ship", min_position=position)

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.search(collection, "ship", filter="lost AND yaer > 1500")

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refusal.value) == "INVALID_FILTER"
    assert "at character 10: there is no attribute yaer; did you mean year?" in str(
        refusal.value.details()
    )


async def test_an_attribute_that_was_just_written_is_known(family: Family, collection: str) -> None:
    """Whatever the gateway knew: the search waits for the write and for what it brings along."""
    await family.search(collection, "ship")
    for number in range(5):
        name = f"new{number}"
        position = await put(family, collection, {"raft": ("a ship", {name: True})})

        reply = await family.search(collection, "ship", filter=name, min_position=position)

        assert ids(reply) == ["raft"]
        assert not reply.degraded


async def test_what_does_not_match_is_explained(family: Family, collection: str) -> None:
    position = await put(family, collection, SHIPS)
    search = search_pb2.SearchRequest(
        collection=collection,
        query="ship",
        filter="tags : war AND year < 1600 AND NOT id = raft",
        min_position=position,
    )

    outcomes = {}
    for id in ("galley", "frigate", "raft"):
        request = search_pb2.ExplainHitRequest(search=search, document_id=id)
        outcomes[id] = await family.searches.ExplainHit(request, timeout=SECONDS)

    assert outcomes["galley"].outcome == search_pb2.HIT_OUTCOME_RETURNED
    for id, parts in {
        "frigate": "`year < 1600` of the filter",
        "raft": "`tags : war` and `year < 1600` and `id != raft` of the filter",
    }.items():
        assert outcomes[id].outcome == search_pb2.HIT_OUTCOME_FILTERED
        assert outcomes[id].stage == search_pb2.STAGE_FILTER
        assert outcomes[id].message == f"it does not match {parts}"
        assert outcomes[id].hit.document.id == id


async def test_the_command_takes_a_filter_and_shows_the_plan(
    family: Family, collection: str, tmp_path: Path
) -> None:
    position = await put(family, collection, SHIPS)
    await family.search(collection, "ship", min_position=position)
    asked = (collection, "ship", "--filter", "tags : war AND NOT lost")
    at = ("--address", family.cluster.address)

    code, shown, errors = await trireme("search", *asked, "--explain", *at, journals=tmp_path)
    assert (code, errors) == (0, "")
    assert "frigate" in shown
    assert "galley" not in shown
    assert "tags : war AND NOT lost; dense 1 of 4 match, exact" in " ".join(shown.split())

    code, shown, errors = await trireme("explain", *asked, "galley", *at, journals=tmp_path)
    assert code == 0
    assert "it does not match `NOT lost` of the filter" in shown

    code, _, errors = await trireme(
        "search", collection, "ship", "--filter", "lots", *at, journals=tmp_path
    )
    assert code != 0
    assert "did you mean lost?" in " ".join(errors.split())


async def test_the_collection_shows_its_attributes(family: Family, collection: str) -> None:
    position = await put(family, collection, SHIPS)
    await family.search(collection, "ship", min_position=position)

    reply = await family.collections.GetCollection(
        collection_pb2.GetCollectionRequest(name=collection), timeout=SECONDS
    )

    schema = reply.collection.schema
    assert [(each.name, each.type, each.seen) for each in schema.attributes] == [
        ("lost", filter_pb2.ATTRIBUTE_TYPE_BOOL, True),
        ("seen", filter_pb2.ATTRIBUTE_TYPE_TIMESTAMP, True),
        ("tags", filter_pb2.ATTRIBUTE_TYPE_STRINGS, True),
        ("year", filter_pb2.ATTRIBUTE_TYPE_NUMBER, True),
    ]
    assert (schema.closed, schema.complete) == (False, True)


async def test_a_declared_schema_holds_for_every_document(family: Family) -> None:
    name = f"t-{uuid.uuid4().hex[:12]}"
    declared = filter_pb2.CollectionSchema(
        attributes=[filter_pb2.AttributeField(name="year", type=filter_pb2.ATTRIBUTE_TYPE_NUMBER)],
        closed=True,
    )
    created = await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=name, schema=declared)
        ),
        timeout=SECONDS,
    )
    assert created.collection.schema.attributes == declared.attributes

    refused = {}
    wrong: list[Mapping[str, AttributeValue]] = [{"year": "1500"}, {"century": 16.0}]
    for attributes in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await put(family, name, {"galley": ("a ship", attributes)})
        refused[reason_of(refusal.value)] = str(refusal.value.details())
    assert list(refused) == ["ATTRIBUTE_MISMATCH"]
    assert "documents[0].attributes['century']" in refused["ATTRIBUTE_MISMATCH"]

    # Known before there is any document, and nothing else is.
    assert not (await family.search(name, "ship", filter="year > 1600")).hits
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.search(name, "ship", filter="century = 16")
    assert reason_of(refusal.value) == "INVALID_FILTER"

    position = await put(family, name, {"galley": ("a ship", {"year": 1700.0})})
    reply = await family.search(name, "ship", filter="year > 1600", min_position=position)
    assert ids(reply) == ["galley"]
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )
