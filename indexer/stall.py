"""Why a shard stands still, for people and for alarms; and how long to wait before the next try."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import Gauge

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


class Stall:
    """The state of one shard: `reason` is empty while it moves."""

    def __init__(
        self, gauge: Gauge, collection: str, shard: int, *, first_seconds: float = FIRST_SECONDS
    ) -> None:
        self.reason = ""
        self._gauge = gauge.labels(collection, shard)
        self._fields = {"collection": collection, "shard": shard}
        self._first_seconds = first_seconds
        self._seconds = first_seconds

    def halt(self, reason: str) -> None:
        """Notes why nothing moves."""
        if not self.reason:
            log.warning("shard stalled", extra={**self._fields, "why": reason})
        self.reason = reason
        self._gauge.set(1)

    async def wait(self, reason: str) -> None:
        """Notes why nothing moves, and waits: twice as long each time."""
        self.halt(reason)
        await asyncio.sleep(self._seconds)
        self._seconds = min(LONGEST_SECONDS, self._seconds * 2)

    def clear(self) -> None:
        """Notes that it moves again."""
        if self.reason:
            log.info("shard moves again", extra={**self._fields, "stood_for": self.reason})
        self.reason = ""
        self._seconds = self._first_seconds
        self._gauge.set(0)
