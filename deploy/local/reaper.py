"""Cleans up after its parent, however that ended: `python -m deploy.local.reaper TOKEN PREFIX`.

Standard input is a pipe from the parent. When it closes, every process whose environment carries
the token is asked to end, killed if it does not, and the shared memory under the prefix is removed.
Since the token is inherited, no process has to be announced, and grandchildren are found too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

TOKEN_VARIABLE = "TRIREME_FAMILY"
SHARED_MEMORY = Path("/dev/shm")
GRACE_SECONDS = 8.0
_POLL_SECONDS = 0.05


def family(token: str) -> list[int]:
    """The processes, other than this one, that carry the token."""
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def end(token: str, grace_seconds: float) -> None:
    """Ends the whole family, gently first; returns when none is left."""
    asked: set[int] = set()
    give_up = time.monotonic() + grace_seconds
    while members := family(token):
        if time.monotonic() > give_up:
            _signal(members, signal.SIGKILL)
        else:
            _signal(set(members) - asked, signal.SIGTERM)
            asked.update(members)
        time.sleep(_POLL_SECONDS)


def remove_shared_memory(prefix: str, directory: Path = SHARED_MEMORY) -> None:
    """Removes what crashed Python backends left in shared memory."""
    for path in directory.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def _signal(members: Iterable[int], number: signal.Signals) -> None:
    for member in members:
        try:
            os.kill(member, number)
        except ProcessLookupError:
            continue


def main() -> None:
    """Waits for the parent's end, then cleans up."""
    token, prefix = sys.argv[1:]
    sys.stdin.buffer.read()
    end(token, GRACE_SECONDS)
    remove_shared_memory(prefix)


if __name__ == "__main__":
    main()
