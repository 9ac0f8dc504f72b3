"""Calls are taken side by side, by a server that else is grpc.aio's."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from core import accepting
from core.accepting import CALLS_ASKED_FOR, open_server

SERVICE, SECONDS = "test.Service", 60.0
METHODS = 20


class Counting(grpc.aio.ServerInterceptor):
    """Counts the calls that pass."""

    def __init__(self) -> None:
        self.passed = 0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.passed += 1
        return await continuation(details)


class Service:
    """A server whose methods all answer with what they were sent."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.turns = 0
        self.counting = Counting()
        self.released = asyncio.Event()

    async def answer(self, request: bytes, context: Any) -> bytes:
        self.begun.append(self.turns)
        return request

    async def hang(self, request: bytes, context: Any) -> bytes:
        self.begun.append(self.turns)
        await self.released.wait()
        return request

    async def count_turns(self) -> None:
        """Long turns of the event loop, as many calls under way make them."""
        while True:
            self.turns += 1
            time.sleep(0.02)
            await asyncio.sleep(0)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def address(service: Service) -> AsyncIterator[str]:
    server, address = start(service)
    await server.start()
    yield address
    await server.stop(0)


def start(service: Service) -> tuple[grpc.aio.Server, str]:
    server = open_server([service.counting], [("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {
        f"M{number}": grpc.unary_unary_rpc_method_handler(service.answer)
        for number in range(METHODS)
    }
    handlers["Hang"] = grpc.unary_unary_rpc_method_handler(service.hang)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)
    return server, f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"


@asynccontextmanager
async def asking(address: str) -> AsyncIterator[Callable[[str], Any]]:
    """Calls a method by its name with one byte."""
    async with grpc.aio.insecure_channel(address) as channel:
        asked: Any = channel

        def ask(method: str) -> Any:
            return asked.unary_unary(f"/{SERVICE}/{method}")(b"x", timeout=SECONDS)

        yield ask


async def test_a_busy_server_takes_calls_side_by_side(service: Service, address: str) -> None:
    calls = CALLS_ASKED_FOR

    def ask() -> list[bytes]:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(SECONDS)
            method: Any = channel.unary_unary(f"/{SERVICE}/M3")
            return [each.result() for each in [method.future(b"x", SECONDS) for _ in range(calls)]]

    busy = asyncio.create_task(service.count_turns())
    with ThreadPoolExecutor() as pool:
        answers = await asyncio.get_running_loop().run_in_executor(pool, ask)
    busy.cancel()

    assert answers == [b"x"] * calls
    # One after another, each would begin four turns after the one before.
    assert max(service.begun) - min(service.begun) < 2 * calls
    assert service.counting.passed == calls


async def test_every_method_is_served_again_and_again(service: Service, address: str) -> None:
    async with asking(address) as ask:
        for number in range(METHODS):
            for _ in range(2 * CALLS_ASKED_FOR):
                assert await ask(f"M{number}") == b"x"


async def test_more_calls_than_are_asked_for_are_under_way_at_a_time(
    service: Service, address: str
) -> None:
    async with asking(address) as ask:
        hanging = [ask("Hang") for _ in range(3 * CALLS_ASKED_FOR)]
        async with asyncio.timeout(SECONDS):
            while len(service.begun) < len(hanging):
                await asyncio.sleep(0.01)
        for each in hanging:
            each.cancel()


async def test_an_unknown_method_is_unimplemented(address: str) -> None:
    async with asking(address) as ask:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask("Unknown")

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stopping_server_lets_calls_end(service: Service) -> None:
    server, address = start(service)
    await server.start()
    async with asking(address) as ask:
        under_way = ask("Hang")
        async with asyncio.timeout(SECONDS):
            while not service.begun:
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(server.stop(SECONDS))
        await asyncio.sleep(0)
        service.released.set()

        assert await under_way == b"x"
        await stopping


async def test_a_call_that_is_lost_on_its_way_costs_no_place(service: Service) -> None:
    server, address = start(service)
    core: Any = server
    core, lost = core._server, itertools.count()
    take = core._request_registered_call

    async def lose(method: bytes) -> Any:
        if next(lost) < 2 * METHODS * CALLS_ASKED_FOR:
            raise cygrpc._RequestCallError("lost")
        return await take(method)

    core._request_registered_call = lose
    await server.start()
    async with asking(address) as ask:
        for number in range(METHODS):
            assert await ask(f"M{number}") == b"x"
    await server.stop(0)


async def test_a_server_that_cannot_take_calls_ends(service: Service) -> None:
    server, _ = start(service)
    core: Any = server

    async def fail(method: bytes) -> Any:
        raise RuntimeError("out of order")

    core._server._request_registered_call = fail
    await server.start()

    with pytest.raises(RuntimeError, match="out of order"):
        async with asyncio.timeout(SECONDS):
            await server.wait_for_termination(SECONDS)


@pytest.mark.parametrize(
    "known", [(cygrpc, "_handle_rpc", "another"), (cygrpc, "_gone", ""), (cygrpc, "__name__", "")]
)
async def test_an_unknown_release_is_used_as_it_is(
    service: Service, monkeypatch: pytest.MonkeyPatch, known: tuple[Any, str, str]
) -> None:
    monkeypatch.setattr(accepting, "_KNOWN", (known,))
    server, address = start(service)
    await server.start()

    assert not isinstance(server, accepting._EagerServer)
    async with asking(address) as ask:
        assert await ask("M1") == b"x"
    await server.stop(0)
