"""Everything the gateway measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.interceptors import CallMetrics
from gateway.query import Answer
from gateway.trace import RERANK


class GatewayMetrics:
    """One object per process; `registry` is what the metrics page shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = CallMetrics("gateway", self.registry)
        # From a merge of two short lists (50 us) to the longest deadline.
        self.stage_seconds = Histogram(
            "trireme_gateway_stage_duration_seconds",
            "Time of one stage of a search.",
            ("stage",),
            buckets=(0.00005, 0.0002, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2, 10),
            registry=self.registry,
        )
        self.degraded = Counter(
            "trireme_gateway_degraded_total",
            "Shortfalls in answers.",
            ("stage", "reason"),
            registry=self.registry,
        )
        # Depths that can be asked for.
        self.rerank_documents = Histogram(
            "trireme_gateway_rerank_documents",
            "Documents reranked per search that asked for it.",
            buckets=(0, 1, 5, 10, 20, 50, 100, 200),
            registry=self.registry,
        )
        self.embedding_cache_lookups = Counter(
            "trireme_gateway_embedding_cache_lookups_total",
            "Texts looked up: hit, shared with an equal one that was just computed, or miss.",
            ("outcome",),
            registry=self.registry,
        )
        self.embedding_cache_evictions = Counter(
            "trireme_gateway_embedding_cache_evictions_total",
            "Embeddings that left the cache to make room.",
            registry=self.registry,
        )
        self.embedding_cache_bytes = Gauge(
            "trireme_gateway_embedding_cache_bytes",
            "Memory that cached embeddings take.",
            registry=self.registry,
        )
        self.bulk_searches = Counter(
            "trireme_gateway_bulk_searches_total",
            "Searches of batches and streams that were answered, by reason or OK.",
            ("reason",),
            registry=self.registry,
        )
        self.inference_tokens = Counter(
            "trireme_gateway_inference_tokens_total",
            "Tokens of callers' texts that InferenceService gave to a model.",
            ("model",),
            registry=self.registry,
        )
        self.stream_batches = Counter(
            "trireme_gateway_inference_stream_batches_total",
            "Batches of InferenceService's streams that were answered, by reason or OK.",
            ("reason",),
            registry=self.registry,
        )

        self.second_calls = Counter(
            "trireme_gateway_second_calls_total",
            "Calls to a shard made again at another replica because the first was late, away, or "
            "answered from another generation: won, lost to the first, or refused by the budget.",
            ("reason", "outcome"),
            registry=self.registry,
        )
        self.silent_peers = Gauge(
            "trireme_gateway_silent_peers",
            "1 while a shard or a model in Triton answers nothing and is not waited for.",
            ("peer",),
            registry=self.registry,
        )

    def observe(self, answer: Answer) -> None:
        """Counts one answered search."""
        for timing in answer.timings:
            self.stage_seconds.labels(timing.stage).observe(timing.microseconds / 1e6)
        for shortfall in answer.degraded:
            self.degraded.labels(shortfall.stage, shortfall.reason).inc()
        # Not on later pages, which only show what was reranked for the first.
        if any(timing.stage == RERANK for timing in answer.timings):
            self.rerank_documents.observe(answer.reranked)
