"""Verified copies on this machine of files that are kept elsewhere, under their checksums.

A file arrives as `<sha256>.<number>.part`, is verified, synced, and only then gets its name. The
directory belongs to one process, which locks it; the copies of an earlier one are verified again
before they are used. Above the bound the copies go that were used longest ago: not those that open
generations need, nor those handed out a moment ago, whatever the bound.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from core import fsops
from core.errors import BadEnvironment, CorruptFile
from core.index_store.engine import check_file
from core.manifest import FileEntry

HANDED_OUT_SECONDS = 60.0
"""From the moment a path is handed out, it has been opened by then."""

_LOCK_FILE = "lock"
_KEPT_SETS = 2
_DIGITS = 64


class Cache:
    """At most `most_bytes` in `directory`, about. Safe to share between threads."""

    def __init__(self, directory: Path, most_bytes: int, lock: int) -> None:
        self.directory = directory
        self.evictions = 0
        self._most_bytes = most_bytes
        self._lock = lock
        self._numbers = itertools.count()
        self._guard = threading.RLock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._verified: set[str] = set()
        self._used: dict[str, float] = {}
        self._needed: dict[str, list[frozenset[str]]] = {}

    @classmethod
    def create(cls, directory: Path, most_bytes: int) -> Cache:
        """Locks the directory, made if need be, and takes over the copies that lie there.

        Raises BadEnvironment if another process uses it.
        """
        fsops.make_directory(directory)
        with fsops.storage_errors(directory):
            lock = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise BadEnvironment(
                f"another process keeps its copies in {directory}",
                field="index_cache_directory",
                remedy="give every process a directory of its own",
            ) from error
        cache = cls(directory, most_bytes, lock)
        cache._take_over()
        return cache

    @property
    def size(self) -> int:
        """Bytes of all copies."""
        with self._guard:
            return sum(self._sizes.values())

    def path(self, entry: FileEntry) -> Path:
        """Where the copy of a file is, if there is one."""
        return self.directory / entry.sha256

    def find(self, entry: FileEntry) -> Path | None:
        """A verified copy, None if there is none; a damaged one is removed."""
        path = self.path(entry)
        with self._guard:
            try:
                os.utime(path)
            except FileNotFoundError:
                self._forget(entry.sha256)
                return None
            self._touch(entry)
            if entry.sha256 in self._verified:
                return path
        try:
            check_file(path, entry)
        except CorruptFile:
            self.drop(entry)
            return None
        with self._guard:
            self._verified.add(entry.sha256)
        return path

    def part(self, entry: FileEntry) -> Path:
        """An unused path for a copy that arrives."""
        return self.directory / f"{entry.sha256}.{next(self._numbers)}.part"

    def adopt(self, part: Path, entry: FileEntry) -> Path:
        """Verifies what arrived and gives it its name; raises CorruptFile, and it is gone."""
        try:
            check_file(part, entry)
            fsops.sync_file(part)
            with fsops.storage_errors(part):
                part.replace(self.path(entry))
        finally:
            part.unlink(missing_ok=True)
        fsops.sync_directory(self.directory)
        with self._guard:
            self._touch(entry)
            self._verified.add(entry.sha256)
            self._make_room()
        return self.path(entry)

    def take(self, source: Path, entry: FileEntry) -> None:
        """Keeps a copy of a file of this machine that is known to be good."""
        part = self.part(entry)
        fsops.link_file(source, part)
        self.adopt(part, entry)

    def keep(self, owner: str, entries: Iterable[FileEntry]) -> None:
        """Says which copies an owner needs from now on; those named before stay once more."""
        with self._guard:
            sets = self._needed.setdefault(owner, [])
            sets.append(frozenset(entry.sha256 for entry in entries))
            del sets[:-_KEPT_SETS]

    def release(self, owner: str) -> None:
        """Says that an owner needs nothing any more."""
        with self._guard:
            self._needed = {
                name: sets
                for name, sets in self._needed.items()
                if name != owner and not name.startswith(f"{owner}/")
            }

    def drop(self, entry: FileEntry) -> None:
        """Removes the copy of a file."""
        with self._guard:
            self.path(entry).unlink(missing_ok=True)
            self._forget(entry.sha256)

    def close(self) -> None:
        """Lets another process have the directory."""
        os.close(self._lock)

    def _take_over(self) -> None:
        found = []
        for path in self.directory.iterdir():
            if path.suffix == ".part":
                path.unlink(missing_ok=True)
            elif len(path.name) == _DIGITS:
                status = path.stat()
                found.append((status.st_mtime, path.name, status.st_size))
        self._sizes.update((name, size) for _, name, size in sorted(found))
        self._make_room()

    def _touch(self, entry: FileEntry) -> None:
        self._sizes[entry.sha256] = entry.size
        self._sizes.move_to_end(entry.sha256)
        self._used[entry.sha256] = time.monotonic()

    def _forget(self, sha256: str) -> None:
        self._sizes.pop(sha256, None)
        self._used.pop(sha256, None)
        self._verified.discard(sha256)

    def _make_room(self) -> None:
        over = sum(self._sizes.values()) - self._most_bytes
        if over <= 0:
            return
        needed = frozenset().union(*(each for sets in self._needed.values() for each in sets))
        lately = time.monotonic() - HANDED_OUT_SECONDS
        for name, size in list(self._sizes.items()):
            if over <= 0:
                return
            if name in needed or self._used.get(name, lately) > lately:
                continue
            (self.directory / name).unlink(missing_ok=True)
            self._forget(name)
            self.evictions += 1
            over -= size

    def __repr__(self) -> str:
        return f"<Cache {len(self._sizes)} files, {self.size:,} of {self._most_bytes:,} bytes>"
