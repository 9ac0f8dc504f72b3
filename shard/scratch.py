"""Directories for Tantivy's view of open generations, gone with their process.

Tantivy wants a writable directory in which the files have their own names. Each process locks its
directory; whatever an earlier process left is recognised by its lock being free.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core import fsops


class Scratch:
    """A directory of this process: `create`, `new_directory`, `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock: int | None = lock
        self._numbers = itertools.count()

    @classmethod
    def create(cls, parent: Path) -> Scratch:
        """Makes a directory in `parent` and removes those that dead processes left there."""
        fsops.make_directory(parent)
        with _locked(parent), fsops.storage_errors(parent):
            for path in parent.iterdir():
                _remove_if_left(path)
            path = Path(tempfile.mkdtemp(prefix="open-", dir=parent))
            lock = _open_directory(path)
            fcntl.flock(lock, fcntl.LOCK_SH)
        return cls(path, lock)

    def new_directory(self) -> Path:
        """A path that is not used yet, to be made by the caller."""
        return self._path / str(next(self._numbers))

    def close(self) -> None:
        """Removes the directory with all below it; doing so again changes nothing."""
        shutil.rmtree(self._path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def _remove_if_left(path: Path) -> None:
    try:
        descriptor = _open_directory(path)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Keeps other processes from taking a new directory for one that was left."""
    descriptor = _open_directory(parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
