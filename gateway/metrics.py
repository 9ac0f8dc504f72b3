"""Everything the gateway measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from core.interceptors import CallMetrics
from gateway.query import Answer


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

    def observe(self, answer: Answer) -> None:
        """Counts one answered search."""
        for timing in answer.timings:
            self.stage_seconds.labels(timing.stage).observe(timing.microseconds / 1e6)
        for shortfall in answer.degraded:
            self.degraded.labels(shortfall.stage, shortfall.reason).inc()
        if answer.rerank.enabled:
            self.rerank_documents.observe(answer.reranked)
