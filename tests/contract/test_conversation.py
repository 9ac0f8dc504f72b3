"""Many calls over one stream, between the gateway's end and the shard's, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from core.errors import NotFound
from core.interceptors import Boundary
from core.metrics import CallMetrics
from core.role_server import RoleServer
from core.rpc import MAX_RECEIVE_BYTES, open_channel, reason_of
from gateway.line import Line
from shard.conversation import Conversation
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

SECONDS = 20.0


@dataclass
class SlowAnswers:
    """Answers to `count_terms` wait until they are let go; a generation says which call it was."""

    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    forgotten: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def count_terms(
        self, request: shard_pb2.CountTermsRequest, answer: shard_pb2.CountTermsResponse
    ) -> None:
        gate = self.gates.setdefault(request.query, asyncio.Event())
        self.begun.put_nowait(request.query)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.forgotten.put_nowait(request.query)
            raise
        answer.statistics.terms.append(request.query)

    async def search_lexical(self, request: shard_pb2.SearchLexicalRequest, answer: Any) -> None:
        raise NotFound("COLLECTION_NOT_FOUND", "is not here", field="collection")

    async def fetch(self, request: shard_pb2.FetchRequest, answer: shard_pb2.FetchResponse) -> None:
        answer.documents.add(document=b"x" * MAX_RECEIVE_BYTES)


class Servicer(shard_pb2_grpc.ShardServiceServicer):
    """Conversations alone."""

    def __init__(self, answers: Any, calls: CallMetrics) -> None:
        self._answers = answers
        self._calls = calls
        self.held: list[Conversation] = []
        self.messages_read = 0
        self.messages_sent = 0

    def Watch(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def Converse(  # type: ignore[override]  # noqa: N802
        self, requests: AsyncIterator[shard_pb2.ConverseRequest], context: Any
    ) -> None:
        async def write(response: shard_pb2.ConverseResponse) -> None:
            self.messages_sent += 1
            await context.write(response)

        self.held.append(Conversation(self._answers, self._calls, write))
        await self.held[-1].hold(self._counted(requests))

    async def _counted(
        self, requests: AsyncIterator[shard_pb2.ConverseRequest]
    ) -> AsyncIterator[shard_pb2.ConverseRequest]:
        async for request in requests:
            self.messages_read += 1
            yield request


@dataclass
class Ends:
    """Both ends of a line."""

    line: Line
    answers: SlowAnswers
    servicer: Servicer
    server: RoleServer
    registry: CollectorRegistry

    def count(self, query: str, seconds: float = SECONDS) -> asyncio.Task[Any]:
        request = shard_pb2.CountTermsRequest(query=query)
        return asyncio.create_task(self.line.count_terms(request, seconds))

    async def begun(self, *queries: str) -> None:
        """Waits until the shard works on all of them."""
        async with asyncio.timeout(SECONDS):
            assert {await self.answers.begun.get() for _ in queries} == set(queries)

    def calls(self, ask: str, code: str) -> float | None:
        method = f"/trireme.shard.v1.ShardService/Converse/{ask}"
        labels = {"method": method, "code": code}
        return self.registry.get_sample_value("trireme_shard_calls_total", labels)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    registry = CollectorRegistry()
    metrics, answers = CallMetrics("shard", registry), SlowAnswers()
    servicer = Servicer(answers, metrics)

    def add(server: grpc.aio.Server) -> list[str]:
        shard_pb2_grpc.add_ShardServiceServicer_to_server(servicer, server)
        return []

    server = RoleServer.create("127.0.0.1:0", add, [Boundary(metrics)])
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        line = Line(shard_pb2_grpc.ShardServiceStub(channel))
        yield Ends(line, answers, servicer, server, registry)
        await line.close()
    await server.stop(0)


async def test_calls_are_answered_in_the_order_they_are_ready(ends: Ends) -> None:
    first, second = ends.count("first"), ends.count("second")
    await ends.begun("first", "second")

    ends.answers.gates["second"].set()
    assert list((await second).statistics.terms) == ["second"]
    assert not first.done()
    ends.answers.gates["first"].set()
    assert list((await first).statistics.terms) == ["first"]

    assert len(ends.servicer.held) == 1
    assert ends.calls("count_terms", "OK") == 2.0


async def test_a_failure_is_one_calls_own_and_keeps_its_reason(ends: Ends) -> None:
    waiting = ends.count("waiting")
    await ends.begun("waiting")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ends.line.search_lexical(shard_pb2.SearchLexicalRequest(), SECONDS)
    ends.answers.gates["waiting"].set()

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "collection: is not here"
    assert reason_of(caught.value) == "COLLECTION_NOT_FOUND"
    assert list((await waiting).statistics.terms) == ["waiting"]
    assert ends.calls("search_lexical", "NOT_FOUND") == 1.0


async def test_an_answer_too_large_to_send_is_a_failure_of_that_call(ends: Ends) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ends.line.fetch(shard_pb2.FetchRequest(), SECONDS)

    assert reason_of(caught.value) == "OUT_OF_RANGE"
    assert "ask for fewer documents" in (caught.value.details() or "")
    assert len(ends.servicer.held) == 1


async def test_what_was_not_thought_of_is_internal(ends: Ends) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ends.line.search_dense(shard_pb2.SearchDenseRequest(), SECONDS)

    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_call_that_asks_for_nothing_is_refused(ends: Ends) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ends.line._ask(shard_pb2.Ask(), SECONDS)

    assert reason_of(caught.value) == "FIELD_REQUIRED"


async def test_nobody_works_on_what_nobody_waits_for(ends: Ends) -> None:
    late, cancelled, kept = ends.count("late", 0.2), ends.count("cancelled"), ends.count("kept")
    await ends.begun("late", "cancelled", "kept")

    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await late
    async with asyncio.timeout(SECONDS):
        forgotten = {await ends.answers.forgotten.get() for _ in range(2)}
    ends.answers.gates["kept"].set()

    assert forgotten == {"late", "cancelled"}
    assert list((await kept).statistics.terms) == ["kept"]
    assert ends.calls("count_terms", "CANCELLED") == 2.0


async def test_calls_that_are_given_up_fail_and_the_conversation_goes_on(ends: Ends) -> None:
    given_up = ends.count("given"), ends.count("up")
    await ends.begun("given", "up")

    assert ends.line.is_waiting
    ends.line.give_up("has not answered for 0.4 s")
    for failure in await asyncio.gather(*given_up, return_exceptions=True):
        assert isinstance(failure, grpc.aio.AioRpcError)
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert failure.details() == "has not answered for 0.4 s"
    assert not ends.line.is_waiting
    async with asyncio.timeout(SECONDS):
        forgotten = {await ends.answers.forgotten.get() for _ in given_up}
    later = ends.count("later")
    await ends.begun("later")
    ends.answers.gates["later"].set()

    assert forgotten == {"given", "up"}
    assert list((await later).statistics.terms) == ["later"]
    assert len(ends.servicer.held) == 1


async def test_a_shard_that_stops_answers_what_it_has_read(ends: Ends) -> None:
    asked = ends.count("asked")
    await ends.begun("asked")

    ends.servicer.held[0].end()
    ends.answers.gates["asked"].set()

    assert list((await asked).statistics.terms) == ["asked"]


async def test_after_an_end_the_next_call_opens_another_conversation(ends: Ends) -> None:
    asked = ends.count("asked")
    await ends.begun("asked")
    ends.answers.gates["asked"].set()
    await asked
    assert ends.line._stream is not None
    ends.servicer.held[0].end()
    async with asyncio.timeout(SECONDS):
        await ends.line._stream._reading

    assert list((await ends.count("asked")).statistics.terms) == ["asked"]
    assert len(ends.servicer.held) == 2


async def test_when_a_shard_dies_all_its_calls_fail_as_lost(ends: Ends) -> None:
    asked = [ends.count("first"), ends.count("second")]
    await ends.begun("first", "second")

    await ends.server.stop(0)
    failures = await asyncio.gather(*asked, return_exceptions=True)

    for failure in failures:
        assert isinstance(failure, grpc.aio.AioRpcError)
        assert failure.code() is grpc.StatusCode.UNAVAILABLE


async def test_nothing_is_worked_on_after_a_gateway_has_gone(ends: Ends) -> None:
    asked = ends.count("asked")
    await ends.begun("asked")

    await ends.line.close()

    async with asyncio.timeout(SECONDS):
        assert await ends.answers.forgotten.get() == "asked"
    assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], grpc.RpcError)


async def test_what_comes_up_together_travels_together(ends: Ends) -> None:
    names = [f"query {number}" for number in range(40)]
    asked = [ends.count(name) for name in names]
    await ends.begun(*names)

    for name in names:
        ends.answers.gates[name].set()
    found = await asyncio.gather(*asked)

    assert [list(each.statistics.terms) for each in found] == [[name] for name in names]
    assert ends.servicer.messages_read < len(names) / 2
    assert ends.servicer.messages_sent < len(names) / 2
