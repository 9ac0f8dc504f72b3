"""The indexer's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class IndexerConfig:
    """Set once at start; `deploy/config.example.yaml` gives every default its reason."""

    address: str
    database_url: str
    """`sqlite:////path/to/store.db`: the only source of truth."""
    index_directory: Path
    """Where generations are published for shards."""
    shard_count: int
    """Shards of collections that are created from now on."""
    triton_address: str
    model_directory: Path
    """Triton's model repository: tokenizers are read from it."""
    encoder_model: str = "bi_encoder"
    """Encoder of collections that name none."""
    batch_documents: int = 128
    """Changes that go into one generation, at most."""
    batch_bytes: int = 512 * 1024
    """Bytes of content that go into one generation, about."""
    title_tokens: int = 64
    """Tokens that a title may take of each passage."""
    embed_tokens: int = 16_384
    """Tokens that are sent to Triton under one deadline."""
    embed_seconds: float = 60.0
    """That deadline."""
    max_waiting_batches: int = 64
    """Batches that may wait to be stored; more are refused as overload."""
    merge_fanout: int = 8
    merge_most_rows: int = 65_536
    build_threads: int = 2
    keep_generations: int = 3
    """Published generations that are kept, the newest included."""
    keep_seconds: float = 300.0
    """Nothing younger than this is cleared away."""
    address_file: Path | None = None
    metrics_address: str = ""
    log_level: str = "info"
    drain_seconds: float = 5.0
