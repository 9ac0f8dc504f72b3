"""Searches and collections over HTTP: the JSON of the protos, and nothing else than by gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf import json_format

from tests.fakes.doors import Doors, at
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2, search_pb2


@pytest_asyncio.fixture(scope="module")
async def doors(family: Family) -> AsyncIterator[Doors]:
    async with at(f"http://{family.cluster.http_address}", family.cluster.address) as clients:
        yield clients


def search_path(collection: str) -> str:
    return f"/v1/collections/{collection}/search"


def waiting_for(position: document_pb2.Position) -> dict[str, object]:
    return {"minPosition": json_format.MessageToDict(position)}


async def test_a_search_finds_what_it_finds_by_grpc(
    family: Family, doors: Doors, collection: str
) -> None:
    position = await family.put(collection, a="ships with sails", b="ships with oars", c="salt")
    expected = await family.search(
        collection, "sails", min_position=position, page_size=2, highlight=True
    )

    body = {"query": "sails", "pageSize": 2, "highlight": True, **waiting_for(position)}
    reply = await doors.post(search_path(collection), body)

    answer = json_format.ParseDict(reply.body, search_pb2.SearchResponse())
    for each in (answer, expected):
        for name in ("timings", "total_microseconds", "next_page_token", "page_expire_time"):
            each.ClearField(name)
    assert reply.status == 200
    assert reply.body["hits"][0]["document"]["id"] == "a"
    assert answer == expected


async def test_names_may_be_those_of_the_proto(
    family: Family, doors: Doors, collection: str
) -> None:
    position = await family.put(collection, a="ships", b="ships too")

    body = {"query": "ships", "page_size": 1, "mode": "SEARCH_MODE_LEXICAL"}
    reply = await doors.post(search_path(collection), {**body, **waiting_for(position)})

    assert len(reply.body["hits"]) == 1


async def test_pages_follow_each_other(family: Family, doors: Doors, collection: str) -> None:
    texts = {f"d{n}": f"ship number {n}" for n in range(5)}
    body = {"query": "ship", "pageSize": 2, **waiting_for(await family.put(collection, **texts))}
    found, token = [], ""
    while True:
        reply = await doors.post(search_path(collection), {**body, "pageToken": token})
        found += [hit["document"]["id"] for hit in reply.body["hits"]]
        token = reply.body.get("nextPageToken", "")
        if not token:
            break

    assert sorted(found) == sorted(texts)


@pytest.mark.parametrize(
    ("change", "status", "reason", "named"),
    [
        ({"query": ""}, 400, "FIELD_REQUIRED", "query: "),
        ({"pageSize": -1}, 400, "OUT_OF_RANGE", "page_size: "),
        ({"filter": "year >>"}, 400, "INVALID_FILTER", "filter: "),
        ({"legs": ["SEARCH_LEG_SPARSE"]}, 400, "NO_SUCH_LEG", ""),
        ({"collection": "another"}, 400, "MALFORMED", "collection: "),
        ({"pageSize": "many"}, 400, "MALFORMED", "body: "),
        ({"pagesize": 3}, 400, "MALFORMED", "body: "),
        ({"query": "\ud800"}, 400, "MALFORMED", "body: "),
    ],
)
async def test_a_search_that_is_refused_says_why(
    doors: Doors,
    collection: str,
    change: dict[str, object],
    status: int,
    reason: str,
    named: str,
) -> None:
    reply = await doors.post(search_path(collection), {"query": "ships", **change})

    assert (reply.status, reply.reason) == (status, reason)
    assert reply.body["error"]["message"].startswith(named)


async def test_a_collection_that_there_is_not_is_not_found(doors: Doors) -> None:
    search = await doors.post(search_path("nowhere"), {"query": "ships"})
    collection = await doors.get("/v1/collections/nowhere")

    for reply in (search, collection):
        assert (reply.status, reply.reason) == (404, "COLLECTION_NOT_FOUND")
        assert reply.body["error"]["status"] == "NOT_FOUND"


async def test_a_degraded_answer_says_so(family: Family, doors: Doors, collection: str) -> None:
    position = await family.put(collection, a="ships")
    await family.search(collection, "ships", min_position=position)
    family.triton.set_fault("unhealthy")

    reply = await doors.post(search_path(collection), {"query": "ships"})

    assert reply.status == 200
    assert {"STAGE_ENCODE", "STAGE_RERANK"} <= {each["stage"] for each in reply.body["degraded"]}


async def test_the_callers_deadline_holds(family: Family, doors: Doors, collection: str) -> None:
    position = await family.put(collection, a="ships")
    await family.search(collection, "ships", min_position=position)
    family.triton.set_fault("hang")

    reply = await doors.post(
        search_path(collection), {"query": "ships"}, headers={"trireme-timeout-ms": "800"}
    )

    reasons = {each["reason"] for each in reply.body["degraded"]}
    assert (reply.status, reasons) == (200, {"ERROR_REASON_OUT_OF_TIME"})
    assert int(reply.body["totalMicroseconds"]) < 800_000


async def test_a_lane_that_there_is_not_is_refused(doors: Doors, collection: str) -> None:
    path, body = search_path(collection), {"query": "ships"}

    known = await doors.post(path, body, headers={"trireme-priority": "batch"})
    unknown = await doors.post(path, body, headers={"trireme-priority": "royal"})

    assert known.status == 200
    assert (unknown.status, unknown.reason) == (400, "MALFORMED")


async def test_collections_are_those_of_the_rpc(
    family: Family, doors: Doors, collection: str
) -> None:
    reply = await doors.get(f"/v1/collections/{collection}")
    pages = await doors.get("/v1/collections?pageSize=1000")
    first = await doors.get("/v1/collections?pageSize=1")
    bad = await doors.get("/v1/collections?pageSize=some")

    one = json_format.ParseDict(reply.body, collection_pb2.GetCollectionResponse())
    expected = await family.collections.GetCollection(
        collection_pb2.GetCollectionRequest(name=collection), timeout=SECONDS
    )
    assert one == expected
    assert collection in {each["name"] for each in pages.body["collections"]}
    assert len(first.body["collections"]) == 1
    assert (bad.status, bad.reason) == (400, "MALFORMED")


async def test_a_family_that_serves_is_healthy(doors: Doors) -> None:
    reply = await doors.get("/health")

    assert (reply.status, reply.body) == (200, {"status": "SERVING"})


async def test_http_requests_are_counted(family: Family, doors: Doors) -> None:
    await doors.get("/v1/nothing")

    page = f"http://{family.cluster.metrics_addresses['gateway']}/metrics"
    async with doors.session.get(page) as reply:
        lines = (await reply.text()).splitlines()

    name = 'trireme_gateway_http_requests_total{path="unknown",status="404"}'
    assert any(line.startswith(name) for line in lines)
