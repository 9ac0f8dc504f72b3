"""How far one shard's index is behind what was written, and how fast it moves."""

from __future__ import annotations

import asyncio
from collections import deque

from indexer.clock import now_micros

WINDOW_SECONDS = 60.0
"""The speed is that of so long."""


class Lag:
    """Told of what is accepted, taken in hand and published; says how much lies between.

    `now` is any clock's seconds, as `time.monotonic` gives them.
    """

    def __init__(self) -> None:
        self._accepted = 0
        self._published = -1
        self._taken: deque[tuple[int, int]] = deque()
        self._speeds: deque[tuple[float, int]] = deque()
        self._moved = asyncio.Event()

    @property
    def changes(self) -> int:
        """Changes that are accepted and not published; 0 before it is known what is published."""
        return max(0, self._accepted - self._published) if self._published >= 0 else 0

    def beyond(self, sequence: int) -> int:
        """Changes that are accepted after that one."""
        return max(0, self._accepted - sequence)

    def seconds(self) -> float:
        """The age of the oldest change in hand that is not published, 0 if there is none."""
        if not self._taken:
            return 0.0
        return max(0, now_micros() - self._taken[0][1]) / 1e6

    def documents_per_second(self, now: float) -> float:
        """Documents published in the last minute, per second of it."""
        while self._speeds and self._speeds[0][0] <= now - WINDOW_SECONDS:
            self._speeds.popleft()
        return sum(documents for _, documents in self._speeds) / WINDOW_SECONDS

    def accept(self, head: int) -> None:
        """The feed has grown up to `head`."""
        self._accepted = max(self._accepted, head)

    def take(self, sequence: int, micros: int) -> None:
        """The changes from `sequence` on are in hand; that one was written at `micros`."""
        if sequence > max(self._published, self._taken[-1][0] if self._taken else 0):
            self._taken.append((sequence, micros))

    def publish(self, sequence: int) -> None:
        """Everything up to `sequence` is published."""
        self._published = sequence
        while self._taken and self._taken[0][0] <= sequence:
            self._taken.popleft()
        self._moved.set()

    def count(self, documents: int, now: float) -> None:
        """So many documents were among what was just published."""
        self._speeds.append((now, documents))
        self.documents_per_second(now)

    async def until_below(self, changes: int) -> None:
        """Returns once fewer changes than these are not published."""
        while self.changes >= changes:
            self._moved.clear()
            await self._moved.wait()

    def __repr__(self) -> str:
        return f"<Lag {self.changes} changes>"
