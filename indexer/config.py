"""The indexer's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.index_store.location import CACHE_BYTES


@dataclass(frozen=True, slots=True)
class IndexerConfig:
    """Set once at start; `deploy/config.example.yaml` gives every default its reason."""

    address: str
    database_url: str
    """`sqlite:////path/to/store.db` or `postgresql://user@host/name`: the only source of truth."""
    index_directory: Path
    """Where generations are published for shards."""
    shard_count: int
    """Shards of collections that are created from now on."""
    triton_address: str
    model_directory: Path
    """Triton's model repository: tokenizers are read from it."""
    triton_bulk_requests: int = 3
    """Requests for documents that are with Triton at a time, for each model."""
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
    max_lag_changes: int = 100_000
    """Changes of a shard that may wait to be indexed before writers are held up; 0: any number."""
    merge_fanout: int = 8
    merge_most_rows: int = 8_000_000
    """Documents and passages of a merged segment, at most."""
    seal_threads: int = 1
    """Shards whose large segments are merged and indexed at a time, beside publication."""
    search_gpu: bool = False
    """Shards search on GPUs: large segments get kinds of vector index that these can hold."""
    build_threads: int = 2
    idle_seconds: float = 5.0
    """After so long without a write a shard frees what it needs for writing only."""
    keep_generations: int = 3
    """Published generations that are kept, the newest included."""
    keep_seconds: float = 300.0
    """Nothing younger than this is cleared away."""
    index_url: str = ""
    """`s3://bucket/prefix` to publish there; `index_directory` is then for working copies."""
    index_endpoint: str = ""
    """Base URL of a service other than Amazon's."""
    index_region: str = ""
    """The bucket's; empty: as the environment says."""
    index_cache_directory: Path | None = None
    """For copies of what is in the bucket; default: `cache` in `index_directory`."""
    index_cache_bytes: int = CACHE_BYTES
    """Of these copies, about."""
    snapshot_location: str = ""
    """A directory or `s3://bucket/prefix` for snapshots; empty: beside the index."""
    address_file: Path | None = None
    metrics_address: str = ""
    log_level: str = "info"
    drain_pause_seconds: float = 0.0
    drain_seconds: float = 5.0
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_client_ca_file: Path | None = None
    """See core/security/tls.py."""
    tls_triton: bool = False
    """Triton speaks TLS too, by the same certificates."""
    reflection: bool = True
    health_address: str = ""
    """See core/rpc.py."""
