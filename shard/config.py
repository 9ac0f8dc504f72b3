"""What a shard can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """Settings of one shard process.

    shard             its number, from 0
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
    """

    shard: int
    index_directory: Path
    address: str = "127.0.0.1:0"
    address_file: Path | None = None
    metrics_address: str = ""
    log_level: str = "info"
    drain_seconds: float = 5.0
    scratch_directory: Path | None = None
    poll_seconds: float = 0.05
    keep_seconds: float = 30.0
    keep_generations: int = 32
    page_seconds: float = 90.0
    page_generations: int = 2000
    search_threads: int = 2
    queued_searches: int = 64
    inline_rows: int = 4096
