"""The directory that a cluster owns: its lock, its format, its address, and where things are.

lock            flock of the running cluster, with its process id
format.json     {"format": 1, "shards": N}
address         "host:port" of the gateway while it serves
prometheus.yaml where the metrics of this cluster are, as Prometheus reads it
config/         one generated YAML file per role
logs/           one file per role
documents.db    the document store
index/          published generations
triton/         Triton's backends, and where it answers
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import IO

from core.deadline import Deadline
from core.errors import BadEnvironment, NewerFormat
from core.fsops import make_directory, replace_file
from deploy.local.reaper import GRACE_SECONDS

FORMAT = 1
_POLL_SECONDS = 0.1


def triton_address_file(state: Path) -> Path:
    """Holds "host:port" of the Triton that the cluster in the directory `state` uses."""
    return state / "triton" / "address"


class State:
    """A locked state directory; `close` unlocks it."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self.lock = lock
        self.address_file = path / "address"
        self.prometheus_file = path / "prometheus.yaml"
        self.config = path / "config"
        self.logs = path / "logs"
        self.triton = path / "triton"
        self.index = path / "index"
        self.database_url = f"sqlite:///{path / 'documents.db'}"

    @classmethod
    async def open(cls, path: Path, shards: int) -> State:
        """Locks the directory, made if need be, for a cluster of this many shards.

        Raises BadEnvironment if another cluster has it or it holds another number of shards, and
        NewerFormat.
        """
        path = path.absolute()
        make_directory(path)
        lock = (path / "lock").open("a+")
        try:
            await _lock(lock, path)
            _check_format(path / "format.json", shards)
            state = cls(path, lock)
            state.address_file.unlink(missing_ok=True)
            for directory in (state.config, state.logs, state.triton, state.index):
                make_directory(directory)
        except BaseException:
            lock.close()
            raise
        return state

    def close(self) -> None:
        """Unlocks the directory."""
        self.lock.close()

    def __repr__(self) -> str:
        return f"<State {self.path}>"


async def _lock(lock: IO[str], path: Path) -> None:
    """Takes the lock; waits while the reaper of a killed cluster still holds it."""
    deadline = Deadline.after(GRACE_SECONDS + 5)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip()
            if _is_alive(owner) or deadline.remaining() <= 0:
                raise BadEnvironment(
                    f"is in use by the cluster of process {owner}",
                    field=str(path),
                    remedy="stop that one, or use another state directory",
                ) from error
        await asyncio.sleep(_POLL_SECONDS)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _is_alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _check_format(path: Path, shards: int) -> None:
    if not path.exists():
        replace_file(path, json.dumps({"format": FORMAT, "shards": shards}).encode())
        return
    found = json.loads(path.read_text())
    if found["format"] > FORMAT:
        raise NewerFormat(
            f"has format {found['format']}, this version knows {FORMAT}",
            field=str(path),
            remedy="use a newer version, or another state directory",
        )
    if found["shards"] != shards:
        raise BadEnvironment(
            f"holds {found['shards']} shards, not {shards}",
            field=str(path.parent),
            remedy=f"start it with {found['shards']} shards, or use another state directory",
        )
