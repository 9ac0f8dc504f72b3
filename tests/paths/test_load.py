"""`trireme load` and what it sends, over real gRPC."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from core.errors import BadEnvironment
from deploy.cli.access import Access
from deploy.load.crew import Crew
from deploy.load.scenario import Shape
from deploy.load.sender import Part, Sender, Target
from deploy.local.ports import free_ports
from tests.paths.conftest import Family
from tests.paths.test_cli import trireme
from trireme.v1 import search_pb2

LOCUSTFILE = Path(__file__).resolve().parents[2] / "deploy" / "load" / "locustfile.py"
DEADLINE = 20.0


class Answering:
    """Answers no search before `wanted` of them have come; refuses those with the word `no`."""

    def __init__(self, wanted: int) -> None:
        self._missing = wanted
        self._all_here = asyncio.Event()
        self.metadata: list[dict[str, Any]] = []

    async def search(self, request: search_pb2.SearchRequest, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        self._missing -= 1
        if self._missing <= 0:
            self._all_here.set()
        await self._all_here.wait()
        if request.query == "no":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return search_pb2.SearchResponse()


@asynccontextmanager
async def answering(wanted: int) -> AsyncIterator[tuple[Answering, str]]:
    """What answers, and the address at which it listens."""
    servicer, server = Answering(wanted), grpc.aio.server()
    search = grpc.unary_unary_rpc_method_handler(
        servicer.search,
        request_deserializer=search_pb2.SearchRequest.FromString,
        response_serializer=search_pb2.SearchResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler("trireme.v1.SearchService", {"Search": search})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(0)


def target(address: str, *queries: str, shapes: tuple[Shape, ...] = (Shape("hybrid"),)) -> Target:
    return Target(Access(address), "books", shapes, queries, DEADLINE)


def part(count: int, *, begin: float, queries: list[int] | None = None) -> Part:
    """All queries due at `begin`."""
    zeros = np.zeros(count, dtype=np.int64)
    chosen = zeros if queries is None else np.array(queries)
    return Part(begin, np.zeros(count), shapes=zeros, queries=chosen)


async def test_queries_are_sent_while_none_is_answered() -> None:
    """A closed loop of fewer clients than that would wait for ever."""
    async with answering(wanted=40) as (_, address), Sender(target(address, "a")) as sender:
        tally = await sender.send(part(40, begin=time.monotonic()))

    assert len(tally.answered) == 40


async def test_a_latency_counts_from_when_the_query_was_due() -> None:
    async with answering(wanted=1) as (_, address), Sender(target(address, "a")) as sender:
        tally = await sender.send(part(1, begin=time.monotonic() - 1.0))

    shortest, late = tally.answered.percentile(0), tally.late.percentile(0)
    assert shortest is not None
    assert late is not None
    assert shortest >= late * 0.999 >= 998


async def test_refusals_are_counted_by_reason_and_not_as_answers() -> None:
    async with answering(wanted=1) as (_, address), Sender(target(address, "a", "no")) as sender:
        tally = await sender.send(part(3, begin=time.monotonic(), queries=[0, 1, 1]))

    assert len(tally.answered) == 1
    assert {reason: len(times) for reason, times in tally.failed.items()} == {
        "RESOURCE_EXHAUSTED": 2
    }


async def test_a_shape_asks_for_its_lane() -> None:
    shapes = (Shape("quiet", priority="backfill"),)
    async with (
        answering(wanted=1) as (servicer, address),
        Sender(target(address, "a", shapes=shapes)) as sender,
    ):
        await sender.send(part(1, begin=time.monotonic()))

    assert servicer.metadata[0]["trireme-priority"] == "backfill"


async def test_several_processes_send_one_load_together() -> None:
    async with answering(wanted=20) as (_, address):
        tally = await asyncio.to_thread(_send_by_two, address)

    assert len(tally.answered) == 20


def _send_by_two(address: str) -> Any:
    with Crew(target(address, "a"), processes=2, arrivals="constant") as crew:
        return crew.send(rate=200.0, seconds=0.1, seed=0)


async def test_in_real_time_every_process_runs_before_others() -> None:
    async with answering(wanted=2) as (_, address):
        try:
            policies = await asyncio.to_thread(_policies_in_real_time, address)
        except BadEnvironment as error:
            pytest.skip(str(error))

    assert policies == [os.SCHED_RR, os.SCHED_RR]


def _policies_in_real_time(address: str) -> list[int]:
    with Crew(target(address, "a"), processes=2, real_time=True) as crew:
        crew.send(rate=20.0, seconds=0.1, seed=0)
        return [os.sched_getscheduler(each.pid or 0) for each in active_children()]


async def test_real_time_that_is_not_allowed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)

    async with answering(wanted=1) as (_, address):
        with pytest.raises(BadEnvironment, match=r"real_time.*CAP_SYS_NICE"):
            await asyncio.to_thread(_policies_in_real_time, address)


async def test_an_address_where_nothing_answers_is_named() -> None:
    (port,) = free_ports(1, "127.0.0.1")

    with pytest.raises(BadEnvironment, match=f"nothing answers at 127.0.0.1:{port}"):
        await asyncio.to_thread(_send_by_two, f"127.0.0.1:{port}")


async def test_load_is_sent_and_reported(family: Family, collection: str, tmp_path: Path) -> None:
    await family.put(collection, a="some words")
    queries = tmp_path / "queries.txt"
    queries.write_text("words\nother words\n")

    code, output, errors = await trireme(
        *("load", collection, "--queries", str(queries), "--rate", "20", "--seconds", "1"),
        *("--warm-up", "0", "--mix", "hybrid=1", "--mix", "lexical=1", "--json"),
        *("--address", family.cluster.address),
        journals=tmp_path,
    )

    assert code == 0, errors
    report = json.loads(output)
    assert report["answered"] == report["sent"] > 0
    assert report["failed"] == {}
    assert report["p50_ms"] <= report["p99_ms"] <= report["max_ms"]
    assert set(report["shapes"]) == {"hybrid", "lexical"}
    assert report["stages"]["lexical"]["count"] == report["answered"]
    assert report["stages"]["dense"]["count"] == report["shapes"]["hybrid"]["count"]


async def test_a_ramp_says_what_was_reached_and_draws_it(
    family: Family, collection: str, tmp_path: Path
) -> None:
    await family.put(collection, a="some words", b="other words")
    page = tmp_path / "load.html"

    code, output, errors = await trireme(
        *("load", collection, "--ramp", "--rate", "5", "--max-rate", "10", "--growth", "2"),
        *("--p99-bound", "60000", "--deadline", "30", "--seconds", "1", "--warm-up", "0"),
        *("--arrivals", "constant", "--json", "--html", str(page)),
        *("--address", family.cluster.address),
        journals=tmp_path,
    )

    assert code == 0, errors
    report = json.loads(output)
    assert [step["rate_per_second"] for step in report["steps"]] == [5, 10]
    assert [step["sent"] for step in report["steps"]] == [5, 10]
    assert report["capacity_per_second"] == 10
    assert "greatest rate" in report["stopped_because"]
    assert page.read_text().count("<svg") == 3


async def test_queries_cannot_be_made_of_an_empty_collection(
    family: Family, collection: str, tmp_path: Path
) -> None:
    code, _, errors = await trireme(
        "load", collection, "--address", family.cluster.address, journals=tmp_path
    )

    assert code == 1
    assert "has no document to make queries of" in errors
    assert "--queries" in errors


@pytest.mark.skipif(
    importlib.util.find_spec("locust") is None,
    reason="locust is not installed: pip install 'trireme[locust]'",
)
async def test_locust_runs_the_scenario(family: Family, collection: str, tmp_path: Path) -> None:
    await family.put(collection, a="some words")
    mix = tmp_path / "mix.yaml"
    mix.write_text("shapes: [{name: words, mode: lexical}]")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--json"),
        *("--users", "2", "--spawn-rate", "2", "--user-rate", "10", "--run-time", "8s"),
        *("--collection", collection, "--scenario", str(mix), "--host", family.cluster.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    (row,) = json.loads(output)
    assert (row["method"], row["name"], row["num_failures"]) == ("Search", "words", 0)
    assert row["num_requests"] > 0
