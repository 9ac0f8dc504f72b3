"""Many searches in one call or over one stream: each ends as it would alone."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import ranking_pb2, search_pb2

FUSED = ranking_pb2.Rerank(enabled=False)
TEXTS = {f"d{n}": f"common word and number {n} of {n % 7}" for n in range(40)}
QUERIES = [f"number {n} of {n % 7}" for n in range(40)]


def request(collection: str, query: str, **fields: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection=collection, query=query, **fields)


def timeless(reply: search_pb2.SearchResponse) -> search_pb2.SearchResponse:
    """A reply without what is never the same twice: times, and a token that holds one."""
    copy = search_pb2.SearchResponse()
    copy.CopyFrom(reply)
    for name in ("timings", "total_microseconds", "next_page_token", "page_expire_time"):
        copy.ClearField(name)
    return copy


async def stream(
    family: Family, *messages: search_pb2.StreamSearchRequest, seconds: float = SECONDS
) -> list[search_pb2.StreamSearchResponse]:
    """What comes back for some messages."""
    return [each async for each in family.searches.StreamSearch(iter(messages), timeout=seconds)]


async def metrics(family: Family) -> str:
    """The gateway's metrics page."""
    url = f"http://{family.cluster.metrics_addresses['gateway']}/metrics"
    page = await asyncio.to_thread(urllib.request.urlopen, url, timeout=SECONDS)
    with page:
        return str(page.read().decode())


async def bulk_searches(family: Family, reason: str) -> float:
    """How many searches of batches and streams the gateway has counted."""
    page = await metrics(family)
    name = f'trireme_gateway_bulk_searches_total{{reason="{reason}"}}'
    counts = [line.split()[-1] for line in page.splitlines() if line.startswith(name)]
    return float(counts[0]) if counts else 0.0


async def test_a_batch_gives_what_its_searches_give_one_by_one(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    alone = [await family.search(collection, q, min_position=position) for q in QUERIES]

    batch = await family.searches.BatchSearch(
        search_pb2.BatchSearchRequest(requests=[request(collection, q) for q in QUERIES]),
        timeout=SECONDS,
    )

    assert all(outcome.HasField("response") for outcome in batch.outcomes)
    assert [timeless(o.response) for o in batch.outcomes] == [timeless(a) for a in alone]


async def test_a_stream_gives_what_its_searches_give_one_by_one(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    alone = {q: await family.search(collection, q, min_position=position) for q in QUERIES}

    replies = await stream(
        family,
        *(search_pb2.StreamSearchRequest(id=q, request=request(collection, q)) for q in QUERIES),
    )

    found = {reply.id: timeless(reply.outcome.response) for reply in replies}
    assert len(replies) == len(QUERIES)
    assert found == {query: timeless(reply) for query, reply in alone.items()}


async def test_a_refused_search_does_not_fail_the_others_of_its_batch(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    bad = [
        request(collection, " "),
        request("nowhere", "word"),
        request(collection, "word", page_size=-1),
    ]

    batch = await family.searches.BatchSearch(
        search_pb2.BatchSearchRequest(
            requests=[request(collection, "word"), *bad, request(collection, "number 3")]
        ),
        timeout=SECONDS,
    )

    first, *refused, last = batch.outcomes
    assert len(first.response.hits) == len(last.response.hits) == 10
    assert [outcome.error.reason for outcome in refused] == [
        "FIELD_REQUIRED",
        "COLLECTION_NOT_FOUND",
        "OUT_OF_RANGE",
    ]
    assert [outcome.error.field for outcome in refused] == [
        "requests[1].query",
        "requests[2].collection",
        "requests[3].page_size",
    ]
    assert "requests[1].query: is empty" in refused[0].error.message
    assert refused[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize(
    ("count", "reason"), [(0, "FIELD_REQUIRED"), (101, "OUT_OF_RANGE")], ids=["none", "too many"]
)
async def test_a_batch_has_one_to_a_hundred_searches(
    family: Family, collection: str, count: int, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.searches.BatchSearch(
            search_pb2.BatchSearchRequest(requests=[request(collection, "word")] * count),
            timeout=SECONDS,
        )

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refusal.value) == reason


async def test_a_batch_shares_one_deadline(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("hang")

    batch = await family.searches.BatchSearch(
        search_pb2.BatchSearchRequest(requests=[request(collection, q) for q in QUERIES[:20]]),
        timeout=2.0,
    )

    # Those that begin at once are labelled; for the others there may be no time left.
    assert len(batch.outcomes) == 20
    assert batch.outcomes[0].response.degraded
    assert all(o.response.degraded for o in batch.outcomes if o.HasField("response"))
    assert {o.error.reason for o in batch.outcomes if o.HasField("error")} <= {"DEADLINE_EXCEEDED"}


async def test_what_cannot_be_answered_does_not_end_a_stream(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    good = request(collection, "word")
    before = [await bulk_searches(family, reason) for reason in ("OK", "FIELD_REQUIRED")]

    replies = await stream(
        family,
        search_pb2.StreamSearchRequest(id="good", request=good),
        search_pb2.StreamSearchRequest(id="blank", request=request(collection, " ")),
        search_pb2.StreamSearchRequest(id="x" * 129, request=good),
        search_pb2.StreamSearchRequest(id="last", request=good),
    )

    outcomes = {reply.id: reply.outcome for reply in replies}
    assert set(outcomes) == {"good", "blank", "x" * 129, "last"}
    assert len(outcomes["good"].response.hits) == len(outcomes["last"].response.hits) == 10
    assert (outcomes["blank"].error.reason, outcomes["blank"].error.field) == (
        "FIELD_REQUIRED",
        "query",
    )
    assert (outcomes["x" * 129].error.reason, outcomes["x" * 129].error.field) == ("TOO_LONG", "id")
    after = [await bulk_searches(family, reason) for reason in ("OK", "FIELD_REQUIRED")]
    assert [after[0] - before[0], after[1] - before[1]] == [2, 1]


async def test_a_message_that_is_not_protobuf_is_answered_in_the_stream(
    family: Family, collection: str
) -> None:
    good = search_pb2.StreamSearchRequest(id="good", request=request(collection, "word"))
    raw: Any = family.channel.stream_stream(
        "/trireme.v1.SearchService/StreamSearch",
        response_deserializer=search_pb2.StreamSearchResponse.FromString,
    )

    replies = [
        reply
        async for reply in raw(
            iter([b"\x12\x04\x12\x02\xff\xfe", good.SerializeToString()]), timeout=SECONDS
        )
    ]

    outcomes = {reply.id: reply.outcome for reply in replies}
    assert set(outcomes) == {"", "good"}
    assert (outcomes[""].error.reason, outcomes[""].error.field) == ("NOT_UTF8", "query")


async def test_the_sender_of_a_stream_is_held_back_while_sixteen_are_worked_on(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("hang")
    # Large, so that what the transport itself takes in advance is soon full.
    padding = "x" * 3_000
    sent = 0

    async def without_end() -> AsyncIterator[search_pb2.StreamSearchRequest]:
        nonlocal sent
        while True:
            sent += 1
            query = request(collection, f"word {sent} {padding}")
            yield search_pb2.StreamSearchRequest(id=str(sent), request=query)

    call = family.searches.StreamSearch(without_end(), timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        before = 0
        while sent < 16 or sent > before:
            before = sent
            # A sender who is not held back sends on meanwhile.
            await family.search(
                collection, "word", mode=search_pb2.SEARCH_MODE_LEXICAL, rerank=FUSED
            )
    first = await call.read()
    call.cancel()

    assert first.outcome.response.degraded or first.outcome.HasField("error")


async def test_a_cancelled_stream_leaves_nothing_behind(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("slow")

    async def some() -> AsyncIterator[search_pb2.StreamSearchRequest]:
        for query in QUERIES:
            yield search_pb2.StreamSearchRequest(id=query, request=request(collection, query))

    call = family.searches.StreamSearch(some(), timeout=SECONDS)
    await call.read()
    call.cancel()
    family.triton.set_fault("ok")

    async with asyncio.timeout(SECONDS):
        while "trireme_gateway_calls_in_flight 0.0" not in await metrics(family):
            await family.search(collection, "word")
    assert len((await family.search(collection, "word")).hits) == 10


async def test_the_answers_of_a_half_closed_stream_still_come(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("slow")

    call = family.searches.StreamSearch(timeout=SECONDS)
    for query in QUERIES[:3]:
        await call.write(
            search_pb2.StreamSearchRequest(id=query, request=request(collection, query))
        )
    await call.done_writing()

    assert {reply.id async for reply in call} == set(QUERIES[:3])
