"""One prefix of a bucket: the calls of S3 that an index store needs, with errors of ours."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from core import fsops
from core.errors import BadEnvironment, IndexStoreUnavailable
from core.index_store.s3_errors import Missing, store_errors

RETRY_SECONDS = 60.0
"""What fails is tried again for so long, ever less often."""

_PART_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing; `tag` changes with its content, `written` is by the store's clock."""

    key: str
    size: int
    tag: bytes
    written: datetime


class Bucket:
    """`where` is its URL. Every method may raise IndexStoreUnavailable or BadEnvironment."""

    def __init__(self, store: S3Store, where: str) -> None:
        self._store = store
        self.where = where

    @classmethod
    def create(
        cls, url: str, *, endpoint: str = "", region: str = "", retry_seconds: float = RETRY_SECONDS
    ) -> Bucket:
        """For `s3://bucket/prefix`, at Amazon's service or another `endpoint`.

        Raises BadEnvironment if that is no such URL.
        """
        bucket, prefix = split_url(url)
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        settings: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        if region:
            settings["region"] = region
        store = S3Store(
            bucket,
            prefix=prefix or None,
            checksum_algorithm="SHA256",
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=20),
                # Of one whole transfer: the bound above notices a store that hangs.
                "timeout": timedelta(hours=1),
            },
            retry_config={
                "max_retries": 20,
                "retry_timeout": timedelta(seconds=retry_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
            **settings,
        )
        return cls(store, url.rstrip("/"))

    @cached_property
    def is_conditional(self) -> bool:
        """Whether a second creation under one key is refused, found out by trying."""
        key = f"probe/{uuid.uuid4().hex}"
        try:
            return self.put_new(key, b"first") and not self.put_new(key, b"second")
        finally:
            self.delete([key])

    @cached_property
    def clock_ahead(self) -> float:
        """Seconds by which the store's clock is ahead of ours, found out by writing."""
        key = f"probe/{uuid.uuid4().hex}"
        written = self.put(key, b"", 0).written
        self.delete([key])
        return (written - datetime.now(UTC)).total_seconds()

    def get(self, key: str) -> bytes | None:
        """A small object, None if there is none."""
        try:
            with store_errors(self.where, f"read {key}"):
                return bytes(obstore.get(self._store, key).bytes())
        except Missing:
            return None

    def download(self, key: str, path: Path) -> bool:
        """Writes an object's content, unsynced, to a file; False if there is no object."""
        try:
            with store_errors(self.where, f"read {key}"):
                stream = obstore.get(self._store, key).stream(_PART_BYTES)
                with path.open("wb") as file:
                    for chunk in stream:
                        with fsops.storage_errors(path):
                            file.write(chunk)
        except Missing:
            return False
        return True

    def put(self, key: str, content: bytes | Path, size: int) -> Listed:
        """Stores an object of `size` bytes and returns once the store shows it whole."""
        with store_errors(self.where, f"write {key}"):
            obstore.put(self._store, key, content, chunk_size=_PART_BYTES)
        stored = self.head(key)
        if stored is None or stored.size != size:
            raise IndexStoreUnavailable(
                f"{self.where}/{key} is {stored} after {size} bytes were written",
                remedy="it is tried again",
            )
        return stored

    def put_new(self, key: str, data: bytes) -> bool:
        """Stores an object unless its key is taken, which only some stores find out."""
        with store_errors(self.where, f"create {key}"):
            try:
                obstore.put(self._store, key, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def head(self, key: str) -> Listed | None:
        """What a listing would say of an object, None if there is none."""
        try:
            with store_errors(self.where, f"look for {key}"):
                return _listed(obstore.head(self._store, key))
        except Missing:
            return None

    def listed(self, folder: str) -> list[Listed]:
        """The objects below a folder, by key; all for the empty one."""
        with store_errors(self.where, "list it"):
            found = obstore.list(self._store, folder or None).collect()
        return sorted(map(_listed, found), key=lambda each: each.key)

    def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are left out."""
        if keys:
            with store_errors(self.where, "remove from it"):
                obstore.delete(self._store, list(keys))

    def __repr__(self) -> str:
        return f"<Bucket {self.where}>"


def _listed(found: Any) -> Listed:
    tag = (found["e_tag"] or "").encode()
    return Listed(found["path"], found["size"], tag, found["last_modified"])


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`; raises BadEnvironment."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme != "s3" or not bucket or prefix.startswith("/") or "//" in prefix:
        raise BadEnvironment(
            f"{url!r} names no bucket", field="index_url", remedy="give s3://bucket/prefix"
        )
    return bucket, prefix
