"""Child processes that never outlive this one, not even when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from deploy.local.reaper import TOKEN_VARIABLE


class Children:
    """Starts processes, each in a session of its own and with a log file.

    A reaper process holds a pipe to this one. Whether `stop` closes that pipe or the kernel does,
    it ends what is left of the children and their children and removes shared memory that is named
    `shared_memory_prefix*`.
    """

    def __init__(self, token: str, reaper: asyncio.subprocess.Process) -> None:
        self._token = token
        self._reaper = reaper

    @classmethod
    async def create(cls, keep_open: IO[str] | None = None) -> Children:
        """Starts the reaper, which keeps `keep_open` open, and so its lock, until it is done."""
        token = uuid.uuid4().hex
        reaper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deploy.local.reaper",
            token,
            _prefix(token),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=() if keep_open is None else (keep_open.fileno(),),
            env=same_python(os.environ),
            start_new_session=True,
        )
        return cls(token, reaper)

    @property
    def shared_memory_prefix(self) -> str:
        """What the names of the children's shared memory must start with."""
        return _prefix(self._token)

    async def spawn(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path
    ) -> asyncio.subprocess.Process:
        """Starts a process whose output is appended to the file `log`."""
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *command,
                env={**environment, TOKEN_VARIABLE: self._token},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def stop(self) -> None:
        """Ends every process that is left and waits until none is."""
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        await self._reaper.wait()

    def __repr__(self) -> str:
        return f"<Children {self._token[:8]}, reaper {self._reaper.pid}>"


async def end(process: asyncio.subprocess.Process, grace_seconds: float) -> int:
    """Asks a process to end, kills it after `grace_seconds`; returns its exit status.

    What it has started itself is killed once it has ended.
    """
    with suppress(TimeoutError, ProcessLookupError):
        process.terminate()
        await asyncio.wait_for(process.wait(), grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return await process.wait()


def same_python(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a child imports the modules that this process imports."""
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def complaints(log: Path, lines: int = 5) -> str:
    """The last lines of a log file that speak of an error, for a message."""
    content = log.read_text(errors="replace").splitlines() if log.exists() else []
    bad = [" ".join(line.split()) for line in content if "rror" in line or "failed" in line]
    return "\n".join(bad[-lines:])


def _prefix(token: str) -> str:
    return f"trireme-{token[:12]}-"
