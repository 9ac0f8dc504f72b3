"""An index store in a bucket, of Amazon S3 or whatever speaks its protocol.

Keys are those of a directory, save what readers look at all the time, CURRENT and what says that a
collection is there or gone: that lies below `heads/`, so that one listing tells whatever changed.

An object counts once the store shows it with its size. Files are read through a cache on this
machine and verified there. Whether the store honours `If-None-Match: *` is tried at the start;
where it does not, manifests are looked for before and read back after, and the compare-and-set in
the document store decides, as it does in any case.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core import fsops
from core.errors import CorruptFile, IndexStoreUnavailable
from core.index_store.bucket import Bucket, Listed
from core.index_store.cache import Cache
from core.index_store.engine import (
    COLLECTION_FILE,
    CURRENT_FILE,
    DELETED_FILE,
    NAMES_FILE,
    Stored,
    Upload,
    Wanted,
    check_file,
)
from core.manifest import FileEntry

log = logging.getLogger(__name__)

HEADS = "heads/"
LOOK_SECONDS = 0.5
"""Readers list `heads/` no more often than that, however often they look."""

TRIES = 4
"""Of a download that does not verify, and of a creation whose outcome is unknown."""

_HEAD_FILES = frozenset({CURRENT_FILE, COLLECTION_FILE, DELETED_FILE, NAMES_FILE})
_TRANSFERS = 8


class S3Engine:
    """Objects in a bucket; files by way of `cache`."""

    def __init__(self, bucket: Bucket, cache: Cache) -> None:
        self._bucket = bucket
        self._cache = cache
        self._stored: dict[str, int] = {}
        self._heads: dict[str, bytes] = {}
        self._looked_until = 0.0
        self._pool = ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="index-store")

    @property
    def where(self) -> str:
        return self._bucket.where

    def prepare(self) -> None:
        told = {"url": self.where, "conditional_put": self._bucket.is_conditional}
        log.info("index store opened", extra=told)

    def read(self, key: str) -> bytes | None:
        return self._bucket.get(_place(key)) if "\0" not in key else None

    def replace(self, key: str, data: bytes) -> None:
        self._bucket.put(_place(key), data, len(data))
        self._looked_until = 0.0

    def create(self, key: str, data: bytes) -> bool:
        problem = IndexStoreUnavailable(f"{key} is being created by others in {self.where}")
        for _ in range(TRIES):
            present = self.read(key)
            if present is not None:
                return present == data
            try:
                if self._bucket.is_conditional:
                    if self._bucket.put_new(_place(key), data):
                        return True
                else:
                    self._bucket.put(_place(key), data, len(data))
            except IndexStoreUnavailable as error:
                # It may have been stored for all that: what is there tells.
                problem = error
        raise problem

    def put_files(self, folder: str, uploads: Sequence[Upload]) -> None:
        list(self._pool.map(self._upload, uploads))

    def put_bytes(self, wanted: Wanted, data: bytes) -> None:
        self._bucket.put(wanted.key, data, len(data))
        self._stored[wanted.key] = len(data)
        part = self._cache.part(wanted.entry)
        fsops.write_file(part, data)
        self._cache.adopt(part, wanted.entry)

    def has(self, wanted: Wanted) -> bool:
        if wanted.key not in self._stored:
            found = self._bucket.head(wanted.key)
            if found is None:
                return False
            self._stored[wanted.key] = found.size
        return self._stored[wanted.key] == wanted.entry.size

    def path(self, wanted: Wanted) -> Path:
        return self._cache.path(wanted.entry)

    def fetch(self, wanted: Sequence[Wanted]) -> list[Path]:
        return list(self._pool.map(self._fetch, wanted))

    def check(self, wanted: Wanted) -> None:
        self._cache.adopt(self._download(wanted), wanted.entry)

    def keep(self, owner: str, entries: Iterable[FileEntry]) -> None:
        self._cache.keep(owner, entries)

    def uids(self, known: Collection[str]) -> set[str]:
        split = [key.partition("/") for key in self._look()]
        present = {uid for uid, _, name in split if name == COLLECTION_FILE}
        return present - {uid for uid, _, name in split if name == DELETED_FILE}

    def mark(self, key: str) -> bytes | None:
        return self._look().get(key)

    def listed(self, folder: str) -> list[Stored]:
        now = datetime.now(UTC) + timedelta(seconds=self._bucket.clock_ahead)
        return [
            Stored(key, each.size, (now - each.written).total_seconds())
            for key, each in self._list(folder)
        ]

    def remove(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self._bucket.delete([_place(key) for key in gone])
        for key in gone:
            self._stored.pop(key, None)
        self._looked_until = 0.0

    def remove_tree(self, folder: str) -> None:
        keys = [key for key, _ in self._list(folder)]
        # Last of all: until then the rest of the tree stays deleted.
        marks = [key for key in keys if key.endswith(f"/{DELETED_FILE}")]
        self.remove([key for key in keys if key not in marks])
        self.remove(marks)
        self._cache.release(folder)

    def _upload(self, upload: Upload) -> None:
        self._bucket.put(upload.key, upload.path, upload.entry.size)
        self._stored[upload.key] = upload.entry.size
        self._cache.take(upload.path, upload.entry)

    def _fetch(self, wanted: Wanted) -> Path:
        found = self._cache.find(wanted.entry)
        return found or self._cache.adopt(self._download(wanted), wanted.entry)

    def _download(self, wanted: Wanted) -> Path:
        """Brings a file here; raises CorruptFile if it stays damaged however often it is asked."""
        part = self._cache.part(wanted.entry)
        problem: CorruptFile | IndexStoreUnavailable | None = None
        for _ in range(TRIES):
            try:
                if not self._bucket.download(wanted.key, part):
                    raise CorruptFile(
                        f"{wanted.entry.name} is missing as {self.where}/{wanted.key}"
                    )
                check_file(part, wanted.entry)
                return part
            except (CorruptFile, IndexStoreUnavailable) as error:
                part.unlink(missing_ok=True)
                problem = error
        assert problem is not None
        raise problem

    def _look(self) -> dict[str, bytes]:
        """Key and tag of everything below `heads/`, as of a moment ago."""
        if time.monotonic() >= self._looked_until:
            found = self._bucket.listed(HEADS)
            self._heads = {each.key.removeprefix(HEADS): each.tag for each in found}
            self._looked_until = time.monotonic() + LOOK_SECONDS
        return self._heads

    def _list(self, folder: str) -> list[tuple[str, Listed]]:
        found = {each.key: each for each in self._bucket.listed(folder)}
        found |= {each.key: each for each in self._bucket.listed(f"{HEADS}{folder}")}
        return [(key.removeprefix(HEADS), each) for key, each in found.items()]

    def __repr__(self) -> str:
        return f"<S3Engine {self.where}, {self._cache!r}>"


def _place(key: str) -> str:
    """Where an object lies below the prefix."""
    return HEADS + key if key.rpartition("/")[2] in _HEAD_FILES else key
