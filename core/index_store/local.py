"""An index store in a directory. Every write is durable, with its name, before it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from core import fsops
from core.errors import CorruptFile
from core.index_store.engine import (
    COLLECTION_FILE,
    DELETED_FILE,
    Stored,
    Upload,
    Wanted,
    check_file,
    sha256_of_file,
)
from core.manifest import FileEntry


class LocalEngine:
    """Objects as files below `root`. Verified files are not hashed again by the same object."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: set[str] = set()

    @property
    def where(self) -> str:
        return str(self._root)

    def prepare(self) -> None:
        fsops.make_directory(self._root)

    def read(self, key: str) -> bytes | None:
        path = self._root / key
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise CorruptFile(f"{path} cannot be read: {error}") from error

    def replace(self, key: str, data: bytes) -> None:
        path = self._root / key
        fsops.make_directory(path.parent)
        fsops.replace_file(path, data)

    def create(self, key: str, data: bytes) -> bool:
        path = self._root / key
        fsops.make_directory(path.parent)
        try:
            fsops.create_file(path, data)
        except FileExistsError:
            return path.read_bytes() == data
        return True

    def put_files(self, folder: str, uploads: Sequence[Upload]) -> None:
        fsops.make_directory(self._root / folder)
        for upload in uploads:
            target = self._root / upload.key
            if target.exists() and sha256_of_file(target) != upload.entry.sha256:
                target.unlink()
            fsops.sync_file(upload.path)
            fsops.link_file(upload.path, target)
        fsops.sync_directory(self._root / folder)

    def put_bytes(self, wanted: Wanted, data: bytes) -> None:
        self.replace(wanted.key, data)

    def has(self, wanted: Wanted) -> bool:
        try:
            return self.path(wanted).stat().st_size == wanted.entry.size
        except OSError:
            return False

    def path(self, wanted: Wanted) -> Path:
        return self._root / wanted.key

    def fetch(self, wanted: Sequence[Wanted]) -> list[Path]:
        for each in wanted:
            if each.key not in self._verified:
                self.check(each)
                self._verified.add(each.key)
        return [self.path(each) for each in wanted]

    def check(self, wanted: Wanted) -> None:
        check_file(self.path(wanted), wanted.entry)

    def keep(self, owner: str, entries: Iterable[FileEntry]) -> None:
        """Nothing to do: all files are on this machine."""

    def uids(self, known: Collection[str]) -> set[str]:
        # Asked for many times a second: without an object for every path.
        root = str(self._root)
        try:
            with os.scandir(root) as children:
                names = [child.name for child in children if child.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {
            name
            for name in names
            if (name in known or os.path.exists(f"{root}/{name}/{COLLECTION_FILE}"))
            and not os.path.exists(f"{root}/{name}/{DELETED_FILE}")
        }

    def mark(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except OSError:
            return None

    def listed(self, folder: str) -> list[Stored]:
        now, found = time.time(), []
        for directory, _, names in os.walk(self._root / folder):
            inside = os.path.relpath(directory, self._root)
            for name in names:
                try:
                    status = os.stat(os.path.join(directory, name))
                except FileNotFoundError:
                    continue
                key = os.path.normpath(os.path.join(inside, name))
                found.append(Stored(key, status.st_size, now - status.st_ctime))
        return sorted(found, key=lambda stored: stored.key)

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._root / key
            with fsops.storage_errors(path):
                path.unlink(missing_ok=True)
            self._verified.discard(key)

    def remove_tree(self, folder: str) -> None:
        path = self._root / folder
        if path.is_dir():
            fsops.remove_tree(path)
        inside = f"{folder}/"
        self._verified = {key for key in self._verified if not key.startswith(inside)}
