"""Hits in groups of one value of an attribute, over shards, pages and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from core.documents import AttributeValue, Document
from core.rpc import reason_of
from core.wire import document_to_proto, value_from_proto
from tests.paths.conftest import SECONDS, Family
from tests.paths.test_degraded import labels
from tests.paths.walking import walk
from trireme.v1 import document_pb2, ranking_pb2, search_pb2

FUSED = ranking_pb2.Rerank(enabled=False)
AUTHORS = ("ann", "bob", "cyd", "dan")


async def put(
    family: Family, collection: str, attributes: Mapping[str, Mapping[str, AttributeValue]]
) -> document_pb2.Position:
    """Stores one document for each id; those that come first answer `word` best."""
    count = len(attributes)
    documents = [
        Document(id, text="word " * (count - number) + "filler " * number, attributes=values)
        for number, (id, values) in enumerate(attributes.items())
    ]
    reply = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(
            collection=collection, documents=map(document_to_proto, documents)
        ),
        timeout=SECONDS,
    )
    position: document_pb2.Position = reply.position
    return position


def shown(
    *replies: search_pb2.SearchResponse,
) -> list[tuple[AttributeValue | None, list[str], int]]:
    return [
        (value_from_proto(group.value), [hit.document.id for hit in group.hits], group.size)
        for reply in replies
        for group in reply.groups
    ]


def by_author(count: int) -> dict[str, dict[str, AttributeValue]]:
    return {f"d{n:02}": {"author": AUTHORS[n % len(AUTHORS)]} for n in range(count)}


@pytest.mark.parametrize(
    "rerank", [FUSED, ranking_pb2.Rerank(weight=0.8)], ids=["fused", "reranked"]
)
async def test_groups_are_those_of_the_list_without_groups(
    family: Family, collection: str, rerank: ranking_pb2.Rerank
) -> None:
    position = await put(family, collection, by_author(22))
    fields: dict[str, Any] = {"min_position": position, "rerank": rerank, "window": 100}

    plain = await family.search(collection, "word", page_size=100, **fields)
    grouped = await family.search(
        collection, "word", page_size=10, group_by="author", group_size=3, **fields
    )

    assert not grouped.hits
    members: dict[str, list[str]] = {}
    for hit in plain.hits:
        author = hit.document.attributes["author"].string_value
        members.setdefault(author, []).append(hit.document.id)
    assert shown(grouped) == [(author, ids[:3], len(ids)) for author, ids in members.items()]
    assert sorted(len(ids) for ids in members.values()) == [5, 5, 6, 6]
    scores = {hit.document.id: hit.score for hit in plain.hits}
    assert all(hit.score == scores[hit.document.id] for g in grouped.groups for hit in g.hits)


async def test_pages_of_groups_show_each_group_once(family: Family, collection: str) -> None:
    position = await put(family, collection, {f"d{n:02}": {"n": n // 2 * 1.0} for n in range(30)})
    fields: dict[str, Any] = {
        "min_position": position,
        "rerank": FUSED,
        "group_by": "n",
        "group_size": 2,
        "window": 100,
    }

    whole = await family.search(collection, "word", page_size=100, **fields)
    walked = await walk(family, collection, "word", page_size=4, **fields)

    assert [len(page.groups) for page in walked] == [4, 4, 4, 3]
    assert [group for page in walked for group in page.groups] == list(whole.groups)
    assert {size for _, _, size in shown(whole)} == {2}


async def test_values_of_every_type_and_none_make_groups(family: Family, collection: str) -> None:
    values: dict[str, AttributeValue | None] = {
        "text": "1",
        "number": 1.0,
        "truth": True,
        "list": ("1", "x"),
        "empty": (),
        "none": None,
    }
    position = await put(
        family,
        collection,
        {id: {} if value is None else {"of": value} for id, value in values.items()},
    )

    reply = await family.search(
        collection, "word", min_position=position, rerank=FUSED, group_by="of", group_size=5
    )

    assert sorted(shown(reply), key=repr) == sorted(
        [
            ("1", ["text", "list"], 2),
            (1.0, ["number"], 1),
            (True, ["truth"], 1),
            ("x", ["list"], 1),
            (None, ["empty", "none"], 2),
        ],
        key=repr,
    )
    assert [group.HasField("value") for group in reply.groups].count(False) == 1


async def test_a_wider_window_is_used_if_there_are_too_few_groups(
    family: Family, collection: str
) -> None:
    position = await put(family, collection, {f"d{n:02}": {"n": float(n // 8)} for n in range(80)})
    fields: dict[str, Any] = {"min_position": position, "rerank": FUSED, "group_by": "n"}

    narrow = await family.search(collection, "word", window=10, page_size=1, **fields)
    widened = await family.search(collection, "word", window=10, page_size=9, **fields)

    assert narrow.window == 10
    assert widened.window == 10 * 4 * 4
    assert len(widened.groups) == 9
    assert [size for _, _, size in shown(widened)] == [8] * 9


async def test_an_attribute_that_nobody_has_makes_one_group(
    family: Family, collection: str
) -> None:
    position = await put(family, collection, by_author(5))

    reply = await family.search(collection, "word", min_position=position, group_by="nothing")

    assert [(value, size) for value, _, size in shown(reply)] == [(None, 5)]
    assert not labels(reply)


async def test_nothing_found_makes_no_groups(family: Family, collection: str) -> None:
    reply = await family.search(collection, "word", group_by="author")

    assert not reply.groups
    assert not reply.next_page_token
    assert reply.candidate_count == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"group_by": "author", "group_size": 101}, "OUT_OF_RANGE"),
        ({"group_by": "author", "group_size": -1}, "OUT_OF_RANGE"),
        ({"group_size": 2}, "MALFORMED"),
        ({"group_by": "x" * 129}, "TOO_LONG"),
    ],
)
async def test_groups_that_make_no_sense_are_refused(
    family: Family, collection: str, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await family.search(collection, "word", **fields)

    assert reason_of(refused.value) == reason
