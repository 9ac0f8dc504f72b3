"""Asks one shard through whichever of its replicas answers best.

The least busy one is asked. If it is away, the next one is asked at once; if it is late, a second
one is asked beside it, the first good answer counts and the other call is cancelled (Dean and
Barroso, "The Tail at Scale", CACM 2013). With one replica all of this costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import random
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc

from core.errors import ShardUnavailable
from core.rpc import reason_of
from gateway.metrics import GatewayMetrics
from gateway.peer import Peer

# Sooner than this a second call costs more than it saves: it is what a call takes on a busy core.
LEAST_HEDGE_SECONDS = 0.005
# Hedges that were not needed are kept for the moment at which a replica stops.
BURST_HEDGES = 10.0


class Used(Protocol):
    """Which generation answered."""

    epoch: int
    generation: int


class Answering(Protocol):
    """What every reply of a shard has."""

    @property
    def generation(self) -> Used: ...


LACKS_GENERATION = "PAGE_TOKEN_EXPIRED"
# As gRPC itself reports a peer that is away, and one that died under a call.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)

Reply = TypeVar("Reply", bound=Answering)
Call = Callable[[Peer], Awaitable[Reply]]
Generation = tuple[int, int]
"""Epoch and number."""


class Holder(NamedTuple):
    """A replica and the newest generation that it serves."""

    peer: Peer
    newest: Generation


class Budget:
    """How many calls may be made twice: `share` of all, and a burst after a quiet time."""

    def __init__(self, share: float, burst: float = BURST_HEDGES) -> None:
        self._share = share
        self._burst = burst
        self._saved = burst if share else 0.0

    def earn(self) -> None:
        """Notes one call."""
        self._saved = min(self._burst, self._saved + self._share)

    def spend(self) -> bool:
        """Takes one second call; whether there was one."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Replicas:
    """How replicas are asked; one for all shards of a gateway.

    `share` of the calls may be made twice because they are late; 0: none.
    """

    def __init__(self, share: float, metrics: GatewayMetrics) -> None:
        self._budget = Budget(share)
        self._second_calls = metrics.second_calls
        self.shard_seconds = metrics.shard_seconds

    def order(
        self, holders: Sequence[Holder], wanted: Generation, *, even_silent: bool = False
    ) -> list[Peer]:
        """Whom to ask, best first: holders of the generation, then the least busy, then by lot.

        Silent ones are left out, unless they too are to be asked.
        """
        ranked = sorted(
            (holder.newest < wanted, holder.peer.in_flight, random(), number)
            for number, holder in enumerate(holders)
            if even_silent or not holder.peer.pulse.silent
        )
        return [holders[number].peer for *_, number in ranked]

    async def ask(
        self, order: Sequence[Peer], wanted: Generation, kind: str, call: Call[Reply]
    ) -> Reply:
        """The answer of one of the peers in `order`; calls of one `kind` take about as long.

        Raises ShardUnavailable if there is no peer, AioRpcError or TimeoutError.
        """
        if not order:
            raise ShardUnavailable("is not answering")
        if len(order) == 1:
            return await _measured(order[0], kind, call)
        self._budget.earn()
        found: Reply = await _Race(self, order, wanted, kind, call).answer()
        return found

    def may_hedge(self) -> bool:
        """Whether a late call may be made a second time; it is then counted."""
        allowed = self._budget.spend()
        if not allowed:
            self.count("late", "refused")
        return allowed

    def count(self, reason: str, outcome: str) -> None:
        """Counts a second call."""
        self._second_calls(reason, outcome).inc()


class _Race:
    """One call on its way to up to all replicas."""

    def __init__(
        self, replicas: Replicas, order: Sequence[Peer], wanted: Generation, kind: str, call: Any
    ) -> None:
        self._replicas = replicas
        self._next: Iterator[Peer] = iter(order)
        self._wanted = wanted
        self._kind = kind
        self._call = call
        self._running: dict[asyncio.Task[Any], tuple[Peer, str]] = {}
        self._patience: float | None = max(
            LEAST_HEDGE_SECONDS, min(peer.call_seconds(kind).value for peer in order)
        )
        self._second_best: Any = None
        self._failure: BaseException = ShardUnavailable("is not answering")

    async def answer(self) -> Any:
        """The first good answer, else one from another generation, else the last failure."""
        try:
            self._ask_next("")
            while self._running:
                done, _ = await asyncio.wait(
                    self._running, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._hedge()
                for task in done:
                    if self._is_good(task):
                        return task.result()
        finally:
            for task in self._running:
                task.cancel()
        if self._second_best is not None:
            return self._second_best
        raise self._failure

    def _hedge(self) -> None:
        self._patience = None
        if self._replicas.may_hedge():
            self._ask_next("late")

    def _ask_next(self, reason: str) -> None:
        peer = next(self._next, None)
        if peer is None:
            return
        task = asyncio.ensure_future(_measured(peer, self._kind, self._call))
        task.add_done_callback(_retrieve)
        self._running[task] = (peer, reason)

    def _is_good(self, task: asyncio.Task[Any]) -> bool:
        """Takes a finished call into account; whether its answer is the one to return."""
        _, reason = self._running.pop(task)
        failure = task.exception()
        if failure is not None:
            self._failure = failure
            if _is_away(failure):
                self._ask_next("away")
            return False
        used = task.result().generation
        if (used.epoch, used.generation) != self._wanted:
            self._second_best = task.result()
            self._ask_next("generation")
            return False
        self._settle(reason)
        return True

    def _settle(self, reason: str) -> None:
        if reason:
            self._replicas.count(reason, "won")
        for peer, other in self._running.values():
            if other:
                self._replicas.count(other, "lost")
            else:
                peer.pulse.overtaken()


async def watched(peer: Peer, call: Call[Reply]) -> Reply:
    """One call, and what it tells about the peer."""
    started = time.perf_counter()
    try:
        reply = await call(peer)
    except grpc.aio.AioRpcError as error:
        if reason_of(error):
            peer.pulse.answered()
        elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            peer.pulse.unanswered(time.perf_counter() - started)
        raise
    except TimeoutError:
        peer.pulse.unanswered(time.perf_counter() - started)
        raise
    peer.pulse.answered()
    return reply


async def _measured(peer: Peer, kind: str, call: Call[Reply]) -> Reply:
    """The same, for a peer that is one of several."""
    started = time.perf_counter()
    peer.in_flight += 1
    try:
        reply = await watched(peer, call)
    finally:
        peer.in_flight -= 1
    peer.call_seconds(kind).observe(time.perf_counter() - started)
    return reply


def _is_away(failure: BaseException) -> bool:
    """Whether another replica may answer: the peer is lost, or lacks what a page stands for."""
    if not isinstance(failure, grpc.aio.AioRpcError):
        return False
    if reason := reason_of(failure):
        return reason == LACKS_GENERATION
    return failure.code() in _LOST


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Takes the failure of a call that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
