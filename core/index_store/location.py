"""Where an index store is, as a role's configuration says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import BadEnvironment
from core.index_store.cache import Cache
from core.index_store.engine import Engine
from core.index_store.local import LocalEngine

CACHE_BYTES = 20 * 1024**3


class IndexSettings(Protocol):
    """What the configuration of a role that uses an index store has; see `Location`."""

    @property
    def index_directory(self) -> Path: ...
    @property
    def index_url(self) -> str: ...
    @property
    def index_endpoint(self) -> str: ...
    @property
    def index_region(self) -> str: ...
    @property
    def index_cache_directory(self) -> Path | None: ...
    @property
    def index_cache_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Location:
    """A directory, or with a `url` (`s3://bucket/prefix`) a bucket.

    With a `url`, `directory` holds only what this process keeps on its machine: verified copies of
    at most `cache_bytes`, in `cache_directory`, `cache` in `directory` by default. `endpoint` is
    the base URL of a service other than Amazon's; `region` is that of the bucket. Credentials are
    those of the environment: AWS_ACCESS_KEY_ID and so on.
    """

    directory: Path
    url: str = ""
    endpoint: str = ""
    region: str = ""
    cache_directory: Path | None = None
    cache_bytes: int = CACHE_BYTES

    @classmethod
    def of(cls, config: IndexSettings) -> Location:
        """Where a role's configuration says."""
        return cls(
            config.index_directory,
            config.index_url,
            config.index_endpoint,
            config.index_region,
            config.index_cache_directory,
            config.index_cache_bytes,
        )

    def engine(self) -> Engine:
        """The engine for it; raises BadEnvironment."""
        if not self.url:
            return LocalEngine(self.directory)
        try:
            # Only whoever keeps an index there needs that library.
            from core.index_store.bucket import Bucket
            from core.index_store.s3 import S3Engine
        except ImportError as error:
            raise BadEnvironment(
                "an index in a bucket needs the package obstore",
                field="index_url",
                remedy="pip install 'trireme[s3]'",
            ) from error
        bucket = Bucket.create(self.url, endpoint=self.endpoint, region=self.region)
        cache = Cache.create(self.cache_directory or self.directory / "cache", self.cache_bytes)
        return S3Engine(bucket, cache)
