"""One worker as its parent sees it: started, ready, lost, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from core.errors import BadEnvironment

# Room for what comes after the last call: closing channels, writing the last log lines.
TEARDOWN_SECONDS = 5.0


class WorkerProcess:
    """Runs `gateway.worker` with `settings`; it inherits the descriptors `keep`."""

    def __init__(self, number: int, settings: Mapping[str, Any], keep: Sequence[int]) -> None:
        self.number = number
        self.metrics_port = 0
        self._settings = settings
        self._keep = keep
        self._process: asyncio.subprocess.Process | None = None
        # Both ends: a reader that nobody holds closes the connection.
        self._control: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, as of the last start."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Returns when it answers; raises BadEnvironment if it ends before."""
        own, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "gateway.worker", "--control", str(other.fileno())]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(other.fileno(), *self._keep),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        self._control = await asyncio.open_connection(sock=own)
        self._control[1].write(json.dumps(self._settings).encode() + b"\n")
        line = await self._control[0].readline()
        if not line:
            self._hang_up()
            raise BadEnvironment(
                f"worker {self.number} ended with status {await self._process.wait()}",
                field="workers",
                remedy="its own message stands above this one",
            )
        self.metrics_port = int(json.loads(line)["metrics_port"])

    async def lost(self) -> int:
        """Returns when it has ended, with its exit status."""
        assert self._process is not None
        status = await self._process.wait()
        self.metrics_port = 0
        self._hang_up()
        return status

    def retire(self) -> None:
        """Tells it to stop as if it were alone: it drains by itself."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def stop(self, grace_seconds: float) -> None:
        """Waits until it has ended, killing it if it takes longer than it should."""
        if self._process is None:
            return
        self.retire()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace_seconds + TEARDOWN_SECONDS)
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control[1].close()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.number}, pid {self.pid}>"
