"""What a shard can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.index_store.location import CACHE_BYTES


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """Settings of one shard process.

    shard             its number, from 0
    index_url         `s3://bucket/prefix` if the indexer publishes there; `index_directory` is then
                      for what this process keeps
    index_endpoint    base URL of a service other than Amazon's; `index_region`: the bucket's
    index_cache_directory holds copies of files of the bucket; default: `cache` in `index_directory`
    index_cache_bytes bytes of these copies, about
    scratch_directory holds Tantivy's view of open generations; best on the file system of
                      `index_directory`, where it costs hard links only; default: `scratch` in it
    poll_seconds      how often it looks for new generations
    keep_seconds      how long a replaced generation can be searched, for queries under way,
    keep_generations  and how many of them at most, for each collection
    page_seconds      how long its documents can be fetched, for later pages of answers,
    page_generations  and those of how many generations at most, for each collection
    search_threads    how many searches run in threads at a time
    queued_searches   how many may wait for a thread before more are refused
    inline_rows       how many passages are searched at once, without the cost of a thread
    recall_one_in     of so many dense searches one is repeated exactly, beside its answer, to
                      measure the recall of sealed segments; 0: none
    device            where vectors of large segments are searched: `auto` takes GPUs where there
                      are any, `cpu` never does, `gpu` does not start without
    gpus              their numbers; all if none is named
    gpu_least_rows    the smallest segment that is copied there, in passages
    gpu_megabytes     what copies may take on each of them; 0: until it is full
    gpu_float16       whether flat vectors take two bytes a component there instead of four
    tls_...           see core/security/tls.py; `reflection`, `health_address`: core/rpc.py
    """

    shard: int
    index_directory: Path
    address: str = "127.0.0.1:0"
    address_file: Path | None = None
    metrics_address: str = ""
    log_level: str = "info"
    drain_pause_seconds: float = 0.0
    drain_seconds: float = 5.0
    index_url: str = ""
    index_endpoint: str = ""
    index_region: str = ""
    index_cache_directory: Path | None = None
    index_cache_bytes: int = CACHE_BYTES
    scratch_directory: Path | None = None
    poll_seconds: float = 0.05
    keep_seconds: float = 30.0
    keep_generations: int = 32
    page_seconds: float = 90.0
    page_generations: int = 2000
    search_threads: int = 2
    queued_searches: int = 64
    inline_rows: int = 16_384
    recall_one_in: int = 1000
    device: str = "auto"
    gpus: tuple[int, ...] = ()
    gpu_least_rows: int = 20_000
    gpu_megabytes: int = 0
    gpu_float16: bool = False
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_client_ca_file: Path | None = None
    reflection: bool = True
    health_address: str = ""
