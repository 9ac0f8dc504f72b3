"""All figures that the indexer tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.interceptors import CallMetrics

_SHARD = ("collection", "shard")
# From one small document (tens of milliseconds) to a full batch on a small machine.
_STEP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class IndexerMetrics:
    """Registered once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.calls = CallMetrics("indexer", registry)
        self.stored = Counter(
            "trireme_indexer_documents_stored_total",
            "Documents written to the document store.",
            registry=registry,
        )
        self.waiting = Gauge(
            "trireme_indexer_batches_waiting", "Batches waiting to be stored.", registry=registry
        )
        self.lag = Gauge(
            "trireme_indexer_lag_changes",
            "Changes accepted but not yet published, when last published.",
            _SHARD,
            registry=registry,
        )
        self.stalled = Gauge(
            "trireme_indexer_stalled", "1 while a shard stands still.", _SHARD, registry=registry
        )
        self.generation = Gauge(
            "trireme_indexer_generation", "Published generation.", _SHARD, registry=registry
        )
        self.segments = Gauge(
            "trireme_indexer_segments", "Segments of the index.", _SHARD, registry=registry
        )
        self.indexed = Counter(
            "trireme_indexer_documents_indexed_total",
            "Documents published to searchers.",
            registry=registry,
        )
        self.quarantined = Counter(
            "trireme_indexer_documents_quarantined_total",
            "Documents set aside because they fail alone.",
            registry=registry,
        )
        self.rebuilds = Counter(
            "trireme_indexer_rebuilds_total",
            "Indexes thrown away and built again from the feed.",
            registry=registry,
        )
        self.merges = Counter(
            "trireme_indexer_merges_total", "Merges of segments.", registry=registry
        )
        self.step_seconds = Histogram(
            "trireme_indexer_step_duration_seconds",
            "Time of one step of the write path.",
            ("step",),
            buckets=_STEP_BUCKETS,
            registry=registry,
        )
        # A search sees a write after this long; the aim for an idle indexer is below a second.
        self.visible_seconds = Histogram(
            "trireme_indexer_visible_delay_seconds",
            "From a document's acknowledgement to its publication, oldest of each batch.",
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=registry,
        )
