"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Every setting, with its unit in the name; `deploy/config.example.yaml` explains them."""

    address: str
    shards: tuple[str, ...]
    indexer_address: str
    triton_address: str
    model_directory: Path
    triton_bulk_requests: int = 3
    workers: int = 1
    address_file: Path | None = None
    metrics_address: str = ""
    log_level: str = "info"
    drain_pause_seconds: float = 0.0
    drain_seconds: float = 5.0
    encoder_model: str = "bi_encoder"
    sparse_encoder_model: str = "sparse_encoder"
    reranker_model: str = "cross_encoder"
    default_deadline_seconds: float = 2.0
    longest_deadline_seconds: float = 30.0
    max_concurrent_searches: int = 64
    embedding_cache_megabytes: int = 64
    hedge_quantile: float = 0.95
    hedge_share: float = 0.1
    page_token_seconds: float = 60.0
    page_token_key_file: Path | None = None
    rerank_depth: int = 20
    rerank_weight: float = 0.3
    shadow_queries: int = 0
    slow_search_seconds: float = 1.0
    log_query_text: bool = False
    http_address: str = ""
    console: bool = False
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_client_ca_file: Path | None = None
    tls_triton: bool = False
    reflection: bool = True
    health_address: str = ""
    connection_age_seconds: float = 0.0
    api_keys_file: Path | None = None
    jwt_jwks: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwt_leeway_seconds: float = 30.0
    jwt_refresh_seconds: float = 300.0
    jwt_scope_claim: str = "scope"
    jwt_requests_per_minute: float = 0.0
    jwt_model_tokens_per_minute: float = 0.0
