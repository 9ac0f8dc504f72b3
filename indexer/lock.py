"""One indexer per store: a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from core import fsops
from core.errors import BadEnvironment


class StateLock:
    """Held from `take` to `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> StateLock:
        """Locks the file at `path`; raises BadEnvironment if another process holds it."""
        fsops.make_directory(path.parent)
        with fsops.storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise BadEnvironment(
                f"another indexer uses {path.parent}" + (f" (process {holder})" if holder else ""),
                field=str(path),
                remedy="stop it, or give this one its own directory",
            ) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Lets others have it."""
        os.close(self._descriptor)
