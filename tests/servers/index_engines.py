"""Index stores for tests: a directory, and buckets of real servers, behind one small interface."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from core.index_store import IndexStore, Location, ShardStore
from core.index_store.bucket import Bucket
from core.index_store.cache import Cache
from core.index_store.s3 import S3Engine
from tests.servers import s3

ENGINES = ("directory", "moto", "s3rver")


class Place:
    """One place for an index store; whoever opens it is another process with an empty cache."""

    def __init__(self, folder: Path, endpoint: str = "", url: str = "") -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.url = url
        self._numbers = itertools.count()
        self._caches: list[Cache] = []

    def location(self, cache: Path | None = None) -> Location:
        """Where it is, as configuration says it."""
        own = self.folder / f"process-{next(self._numbers)}"
        directory = own if self.url else self.folder / "index"
        return Location(directory, self.url, self.endpoint, s3.REGION, cache)

    def create(self) -> IndexStore:
        """The store as a writer opens it."""
        return IndexStore.create(self.location())

    def open(self) -> IndexStore:
        """The store as a reader opens it."""
        return IndexStore.open(self.location())

    def engine(
        self, *, cache_bytes: int = 1 << 30, cache: str = "", seconds: float = 60
    ) -> S3Engine:
        """The engine of a bucket with settings of its own; the same `cache` is the same folder."""
        folder = self.folder / (cache or f"cache-{next(self._numbers)}")
        bucket = Bucket.create(
            self.url, endpoint=self.endpoint, region=s3.REGION, retry_seconds=seconds
        )
        kept = Cache.create(folder, cache_bytes)
        self._caches.append(kept)
        return S3Engine(bucket, kept)

    def shard(self, **settings: object) -> ShardStore:
        """Shard 0 of the collection "uid-1", by an engine with settings of its own."""
        return ShardStore(self.engine(**settings), "uid-1/0")  # type: ignore[arg-type]

    def free_caches(self) -> None:
        """Ends the processes that had caches."""
        while self._caches:
            self._caches.pop().close()


class Raw:
    """The objects of a place as they lie there, past everything that is tested."""

    def __init__(self, place: Place, server: s3.S3Server | None) -> None:
        self._folder = place.folder / "index"
        self._bucket = server.raw(place.url) if server is not None else None

    def read(self, key: str) -> bytes:
        if self._bucket is not None:
            return self._bucket.read(_place(key))
        return (self._folder / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        if self._bucket is not None:
            self._bucket.write(_place(key), data)
            return
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def remove(self, key: str) -> None:
        if self._bucket is not None:
            self._bucket.remove(_place(key))
        else:
            (self._folder / key).unlink()

    def present(self) -> set[str]:
        if self._bucket is not None:
            return {key.removeprefix("heads/") for key in self._bucket.present()}
        return {
            str(path.relative_to(self._folder))
            for path in self._folder.rglob("*")
            if path.is_file()
        }


@contextmanager
def servers(factory: pytest.TempPathFactory) -> Iterator[dict[str, s3.S3Server]]:
    """Every server that can run here, started when it is first asked for."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", s3.KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)
        yield _Started(stack, factory)


class _Started(dict[str, s3.S3Server]):
    def __init__(self, stack: ExitStack, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self._stack = stack
        self._factory = factory

    def __missing__(self, name: str) -> s3.S3Server:
        if reason := s3.why_not(name):
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        self[name] = self._stack.enter_context(s3.running(name, self._factory.mktemp(name)))
        return self[name]


def _place(key: str) -> str:
    last = key.rpartition("/")[2]
    return f"heads/{key}" if last in ("CURRENT", "collection.json", "DELETED") else key
