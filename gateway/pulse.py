"""Whether a peer answers. One that has fallen silent is probed until it answers again.

Calls that are given up say so, and say it late: their callers were patient. So a peer that leaves
calls waiting and answers nothing at all is asked whether it is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context

from prometheus_client import Gauge

from gateway.circuit import Circuit

log = logging.getLogger(__name__)

Probe = Callable[[float], Awaitable[bool]]
"""Asks the peer something small, for at most so many seconds; whether it answered."""

PROBE_SECONDS = 1.0
PAUSE_SECONDS = 0.1
# A peer that has said nothing for the first while calls waited is asked whether it is there, and
# has the second to say so. Together they are short enough for the searches that wait meanwhile.
QUIET_SECONDS = 0.1
ALIVE_SECONDS = 0.3
# Who was held up for longer than this times what he meant to wait cannot tell who was silent.
_HELD_UP = 1.5


class Pulse:
    """The circuit of one peer, and its probes; only for one event loop.

    No query pays for a probe, and a peer is found again without any query.
    """

    def __init__(
        self,
        name: str,
        probe: Probe,
        gauge: Gauge,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._probe = probe
        self._gauge = gauge
        self._clock = clock
        self._circuit = Circuit()
        self._silent_since = 0.0
        self._answers = 0
        self._probing: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def silent(self) -> bool:
        """Whether waiting for the peer is vain."""
        return self._circuit.silent

    @property
    def silent_seconds(self) -> float:
        """For how long it has been taken for silent."""
        return self._clock() - self._silent_since if self.silent else 0.0

    def listen(self, is_waited_for: Callable[[], bool], give_up: Callable[[], None]) -> None:
        """From now on finds out by itself that the peer is dead, while calls wait for it.

        These are then given up. The probe must be one that a peer answers however much it has to
        do; call this inside a running event loop.
        """
        self._listening = asyncio.create_task(
            self._listen(is_waited_for, give_up), context=Context()
        )

    def answered(self) -> None:
        """Notes an answer of any kind."""
        self._answers += 1
        if self._circuit.answered():
            self._gauge.labels(self._name).set(0)
            log.info("peer answers again", extra={"peer": self._name})

    def unanswered(self, waited_seconds: float) -> None:
        """Notes a call that was given up after so long."""
        if self._circuit.unanswered(waited_seconds, self._clock()):
            self._fell_silent()

    def overtaken(self) -> None:
        """Notes a call that another peer, asked later, answered sooner."""
        if self._circuit.overtaken():
            self._fell_silent()

    async def stop(self) -> None:
        """Ends the probes, and the listening."""
        for task in (self._listening, self._probing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _listen(self, is_waited_for: Callable[[], bool], give_up: Callable[[], None]) -> None:
        while True:
            heard = self._answers
            await asyncio.sleep(QUIET_SECONDS)
            if self.silent or self._answers != heard or not is_waited_for():
                continue
            began = self._clock()
            is_dead = not await self._probe(ALIVE_SECONDS)
            waited = self._clock() - began
            if is_dead and waited < _HELD_UP * ALIVE_SECONDS and self._answers == heard:
                if self._circuit.found_dead():
                    self._fell_silent(QUIET_SECONDS + waited)
                give_up()

    def _fell_silent(self, seconds_ago: float = 0.0) -> None:
        self._silent_since = self._clock() - seconds_ago
        self._gauge.labels(self._name).set(1)
        log.warning("peer has fallen silent", extra={"peer": self._name})
        if self._probing is None or self._probing.done():
            # Not part of the call that happened to notice it.
            self._probing = asyncio.create_task(self._probe_until_it_answers(), context=Context())

    async def _probe_until_it_answers(self) -> None:
        while self.silent:
            if await self._probe(PROBE_SECONDS):
                self.answered()
            else:
                await asyncio.sleep(PAUSE_SECONDS)

    def __repr__(self) -> str:
        return f"<Pulse of {self._name}, {self._circuit!r}>"
