"""Starts a process again when it ends by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from core.errors import TriremeError

log = logging.getLogger(__name__)

OnProgress = Callable[[str], None]


class Service(Protocol):
    """What can be supervised."""

    name: str
    process: asyncio.subprocess.Process | None

    async def start(self) -> None:
        """Starts the process and returns when it is ready."""

    async def lost(self) -> str:
        """Returns when the service must be started again, saying why."""

    async def stop(self, grace_seconds: float) -> None:
        """Ends the process."""


def backoff_seconds(failures: int) -> float:
    """How long to wait before the next start after so many failed ones: 0, then 0.2 s to 5 s."""
    return min(5.0, 0.2 * 2 ** (failures - 1)) if failures else 0.0


class Supervisor:
    """Keeps one service running from `start` to `stop`."""

    def __init__(self, service: Service, on_progress: OnProgress) -> None:
        self.service = service
        self.restarts = 0
        self._on_progress = on_progress
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the service; raises what that raises."""
        self._on_progress(f"starting {self.service.name}")
        await self.service.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_seconds: float) -> None:
        """Stops watching, then the service."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.service.stop(grace_seconds)

    async def _watch(self) -> None:
        failures = 0
        while True:
            reason = await self.service.lost()
            fields = {"role": self.service.name, "reason": reason, "failures": failures}
            log.warning("role was lost", extra=fields)
            self._on_progress(f"{self.service.name} {reason}, starting it again")
            await self.service.stop(0)
            await asyncio.sleep(backoff_seconds(failures))
            self.restarts += 1
            failures = 0 if await self._starts() else failures + 1

    async def _starts(self) -> bool:
        """Whether the service became ready."""
        try:
            await self.service.start()
        except (TriremeError, OSError) as error:
            log.warning(
                "role did not start", extra={"role": self.service.name, "reason": str(error)}
            )
            return False
        return True

    def __repr__(self) -> str:
        return f"<Supervisor of {self.service.name}, {self.restarts} restarts>"
