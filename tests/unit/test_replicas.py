"""Which replica is asked, when a second one is, and whose answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import grpc
import pytest

from core.errors import ShardUnavailable
from gateway.circuit import UNANSWERED_CALLS
from gateway.metrics import GatewayMetrics
from gateway.peer import Peer
from gateway.pulse import Pulse
from gateway.replicas import BURST_HEDGES, Budget, Generation, Holder, Replicas
from trireme.shard.v1 import shard_pb2

NOW: Generation = (1, 7)
BEFORE: Generation = (1, 6)
KIND = "lexical"

Answer = Callable[[], Awaitable[shard_pb2.SearchLexicalResponse]]


class Group:
    """Two replicas that answer as each test says; nothing is sent to them."""

    def __init__(self) -> None:
        self.metrics = GatewayMetrics()
        self.peers = [
            Peer(f"127.0.0.1:{port}", lambda: None, self.metrics.silent_peers, 0.95)
            for port in (1, 2)
        ]
        self.replicas = Replicas(0.05, self.metrics)
        self.answers: dict[Peer, Answer] = {}
        self.asked: list[Peer] = []
        self.cancelled: list[Peer] = []

    async def ask(self, *order: Peer) -> shard_pb2.SearchLexicalResponse:
        return await self.replicas.ask(order or self.peers, NOW, KIND, self._call)

    async def _call(self, peer: Peer) -> shard_pb2.SearchLexicalResponse:
        self.asked.append(peer)
        try:
            return await self.answers[peer]()
        except asyncio.CancelledError:
            self.cancelled.append(peer)
            raise

    def second_calls(self, reason: str, outcome: str) -> float:
        labels = {"reason": reason, "outcome": outcome}
        found = self.metrics.registry.get_sample_value("trireme_gateway_second_calls_total", labels)
        return found or 0.0

    def known(self, seconds: float) -> None:
        """Calls have taken so long until now."""
        for peer in self.peers:
            peer.call_seconds(KIND).observe(seconds)


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    made = Group()
    yield made
    for peer in made.peers:
        await peer.close()


def reply(generation: Generation = NOW) -> shard_pb2.SearchLexicalResponse:
    used = shard_pb2.GenerationUsed(epoch=generation[0], generation=generation[1])
    return shard_pb2.SearchLexicalResponse(generation=used)


async def at_once() -> shard_pb2.SearchLexicalResponse:
    return reply()


async def from_before() -> shard_pb2.SearchLexicalResponse:
    return reply(BEFORE)


async def never() -> shard_pb2.SearchLexicalResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def failing(code: grpc.StatusCode) -> Answer:
    async def fail() -> shard_pb2.SearchLexicalResponse:
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(code, nothing, nothing, "as the test says")

    return fail


async def test_only_the_first_is_asked_if_it_answers(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: at_once, second: never}

    await group.ask()

    assert group.asked == [first]


async def test_a_late_replica_is_overtaken_and_its_call_cancelled(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: never, second: at_once}
    group.known(0.001)

    await group.ask()
    await asyncio.sleep(0)

    assert group.asked == [first, second]
    assert group.cancelled == [first]
    assert group.second_calls("late", "won") == 1


async def test_a_late_call_is_not_repeated_before_its_time(group: Group) -> None:
    first, second = group.peers
    group.known(3600.0)

    async def some_steps_later() -> shard_pb2.SearchLexicalResponse:
        for _ in range(10):
            await asyncio.sleep(0)
        return reply()

    group.answers = {first: some_steps_later, second: at_once}

    await group.ask()

    assert group.asked == [first]


async def test_a_second_call_that_was_not_needed_is_counted_as_lost(group: Group) -> None:
    first, second = group.peers
    hedged = asyncio.Event()

    async def after_the_hedge() -> shard_pb2.SearchLexicalResponse:
        await hedged.wait()
        return reply()

    async def hang() -> shard_pb2.SearchLexicalResponse:
        hedged.set()
        return await never()

    group.answers = {first: after_the_hedge, second: hang}
    group.known(0.001)

    await group.ask()

    assert group.second_calls("late", "lost") == 1


async def test_a_replica_that_is_away_is_passed_over_at_once(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: failing(grpc.StatusCode.UNAVAILABLE), second: at_once}
    group.known(3600.0)

    await group.ask()

    assert group.asked == [first, second]
    assert group.second_calls("away", "won") == 1


async def test_a_refused_call_is_not_repeated_elsewhere(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: failing(grpc.StatusCode.RESOURCE_EXHAUSTED), second: at_once}

    with pytest.raises(grpc.aio.AioRpcError):
        await group.ask()

    assert group.asked == [first]


async def test_the_last_failure_is_told_if_nobody_answers(group: Group) -> None:
    first, second = group.peers
    group.answers = dict.fromkeys((first, second), failing(grpc.StatusCode.UNAVAILABLE))

    with pytest.raises(grpc.aio.AioRpcError):
        await group.ask()

    assert group.asked == [first, second]


async def test_an_answer_from_the_generation_wanted_is_preferred(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: from_before, second: at_once}

    found = await group.ask()

    assert found.generation.generation == NOW[1]
    assert group.second_calls("generation", "won") == 1


async def test_an_answer_from_another_generation_is_better_than_none(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: from_before, second: failing(grpc.StatusCode.UNAVAILABLE)}

    found = await group.ask()

    assert found.generation.generation == BEFORE[1]


async def test_a_lone_replica_is_asked_once_whatever_it_answers_from(group: Group) -> None:
    first, _ = group.peers
    group.answers = {first: from_before}

    found = await group.ask(first)

    assert found.generation.generation == BEFORE[1]
    assert group.asked == [first]


async def test_nobody_to_ask_is_an_error(group: Group) -> None:
    with pytest.raises(ShardUnavailable):
        await group.replicas.ask([], NOW, KIND, group._call)


async def test_calls_in_flight_are_counted_down_again(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: never, second: at_once}
    group.known(0.001)

    await group.ask()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert [peer.in_flight for peer in group.peers] == [0, 0]


async def test_the_order_prefers_the_generation_then_the_least_busy(group: Group) -> None:
    first, second = group.peers
    up_to_date = [Holder(first, NOW), Holder(second, NOW)]
    first.in_flight = 2
    assert group.replicas.order(up_to_date, NOW) == [second, first]

    behind = [Holder(first, NOW), Holder(second, BEFORE)]
    assert group.replicas.order(behind, NOW) == [first, second]

    # A page of the generation before can be read from both.
    assert group.replicas.order(behind, BEFORE) == [second, first]


async def test_equals_share_the_load(group: Group) -> None:
    holders = [Holder(peer, NOW) for peer in group.peers]

    leaders = [group.replicas.order(holders, NOW)[0] for _ in range(1000)]

    # Fewer than 400 of 1,000 throws of a coin are rarer than one in a thousand million.
    assert 400 < leaders.count(group.peers[0]) < 600


async def test_a_silent_replica_is_not_asked(group: Group) -> None:
    first, second = group.peers
    holders = [Holder(peer, NOW) for peer in group.peers]
    first.pulse = Pulse("first", _no_answer, group.metrics.silent_peers, clock=count().__next__)
    for _ in range(UNANSWERED_CALLS):
        first.pulse.overtaken()

    assert group.replicas.order(holders, NOW) == [second]
    assert group.replicas.order(holders[:1], NOW) == []


async def _no_answer(seconds: float) -> bool:
    return False


async def test_a_replica_that_is_overtaken_again_and_again_falls_silent(group: Group) -> None:
    first, second = group.peers
    group.answers = {first: never, second: at_once}
    group.known(0.03)

    async with asyncio.timeout(20):
        while not first.pulse.silent:
            await group.ask()

    assert not second.pulse.silent
    assert group.second_calls("late", "won") >= UNANSWERED_CALLS


def test_the_budget_is_a_share_of_all_calls_after_a_burst() -> None:
    budget = Budget(0.05)
    calls = 10_000

    hedged = 0
    for _ in range(calls):
        budget.earn()
        hedged += budget.spend()

    assert hedged == pytest.approx(BURST_HEDGES + 0.05 * calls, abs=1)


def test_no_share_means_no_second_call() -> None:
    budget = Budget(0.0)
    budget.earn()

    assert not budget.spend()
