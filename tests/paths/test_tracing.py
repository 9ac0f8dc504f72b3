"""One search is one trace, from its caller through gateway, shards and Triton."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.rpc import open_channel
from tests.fakes.collector import Collector, Span
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Client, running
from trireme.v1 import collection_pb2, search_pb2

CALLER = "b7ad6b7169203331"
SEARCH = "trireme.v1.SearchService/Search"
TEXT = "galleys with three banks of oars"


@dataclass(frozen=True)
class Traced(Client):
    """A cluster whose processes send their spans to a collector."""

    channel: grpc.aio.Channel
    triton: FakeTriton
    collector: Collector
    logs: Path

    async def find(self, *, recorded: bool) -> str:
        """One hybrid search as part of a new trace of its caller; returns the trace's id."""
        trace = uuid.uuid4().hex
        await self.searches.Search(
            search_pb2.SearchRequest(collection="ships", query=TEXT),
            timeout=SECONDS,
            metadata=(("traceparent", f"00-{trace}-{CALLER}-{int(recorded):02d}"),),
        )
        return trace


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    state = tmp_path_factory.mktemp("traced") / "state"
    async with Collector() as collector, FakeTriton() as triton:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            async with (
                running(state, triton, slow_search_seconds=0.000001) as cluster,
                open_channel(cluster.address) as channel,
            ):
                found = Traced(channel, triton, collector, state / "logs")
                await found.collections.CreateCollection(
                    collection_pb2.CreateCollectionRequest(
                        collection=collection_pb2.Collection(name="ships")
                    ),
                    timeout=SECONDS,
                )
                position = await found.put("ships", a="galleys", b="banks of oars", c="sails")
                await found.search("ships", TEXT, min_position=position)
                yield found


async def test_a_search_is_one_trace_over_all_roles(traced: Traced) -> None:
    trace = await traced.find(recorded=True)

    def spans() -> list[Span]:
        return [span for span in traced.collector.spans if span.trace == trace]

    def named(service: str, name: str) -> list[Span]:
        return [each for each in spans() if (each.service, each.name) == (service, name)]

    dense = "search_dense"
    await traced.collector.until(
        lambda: named("trireme-gateway", SEARCH) != [] and len(named("trireme-shard", dense)) == 2,
        SECONDS,
    )
    (search,) = named("trireme-gateway", SEARCH)
    assert search.parent == CALLER
    assert search.attributes["rpc.method"] == "Search"

    stages = {span.name: span for span in spans() if span.service == "trireme-gateway"}
    assert {"encode", "lexical", "dense", "fuse", "rerank"} <= stages.keys()
    for stage in ("encode", "lexical", "dense", "fuse", "rerank"):
        assert stages[stage].parent == search.id
    asked = [span for span in spans() if span.name == "triton"]
    assert {span.parent for span in asked} == {stages["encode"].id, stages["rerank"].id}

    answered = named("trireme-shard", dense)
    assert {span.parent for span in answered} == {stages["dense"].id}
    searched = [span.parent for span in named("trireme-shard", "dense")]
    assert set(searched) == {span.id for span in answered}


async def test_triton_is_told_the_trace_and_the_request(traced: Traced) -> None:
    traced.triton.told.clear()

    trace = await traced.find(recorded=True)

    assert {model for model, _, _ in traced.triton.told} == {"bi_encoder", "cross_encoder"}
    for _, request_id, traceparent in traced.triton.told:
        assert request_id == trace
        assert traceparent.startswith(f"00-{trace}-")
        assert traceparent.endswith("-01")


async def test_what_a_caller_does_not_record_is_not_recorded(traced: Traced) -> None:
    traced.triton.told.clear()
    before = {span.id for span in traced.collector.spans}

    trace = await traced.find(recorded=False)
    # A call that is recorded comes after it, so what it had to send has come.
    await traced.search("ships", "cheese")
    await traced.collector.until(
        lambda: any(s.name == SEARCH and s.id not in before for s in traced.collector.spans),
        SECONDS,
    )

    assert trace not in {span.trace for span in traced.collector.spans}
    told = [traceparent for _, request_id, traceparent in traced.triton.told if request_id == trace]
    assert set(told) == {""}


async def test_a_failed_call_says_why_without_quoting_it(traced: Traced) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await traced.search("no-such-collection", TEXT)

    await traced.collector.until(
        lambda: any(span.failed for span in traced.collector.spans), SECONDS
    )
    failed = {span.failed for span in traced.collector.spans if span.name == SEARCH} - {""}
    assert failed == {"COLLECTION_NOT_FOUND"}
    assert TEXT not in str(traced.collector.spans)


async def test_log_lines_have_the_request_id_and_no_query(traced: Traced) -> None:
    def logs() -> list[str]:
        return [path.read_text() for path in traced.logs.glob("*.log")]

    def slow_searches() -> list[dict[str, Any]]:
        lines = [json.loads(line) for log in logs() for line in log.splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == "slow search"]

    async with asyncio.timeout(SECONDS):
        trace = await traced.find(recorded=True)
        # Of searches that come soon after each other only the first is logged.
        while trace not in {line["request_id"] for line in slow_searches()}:
            trace = await traced.find(recorded=True)

    slow = slow_searches()
    assert not [log for log in logs() if TEXT in log]
    assert slow[-1]["query_characters"] == len(TEXT)
