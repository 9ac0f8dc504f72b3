"""All figures that the indexer tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.manifest import Manifest
from core.metrics import CallMetrics, InferenceMetrics, introduce
from core.vectors.kinds import KINDS
from indexer.lag import Lag
from indexer.vector_state import VectorState

_SHARD = ("collection", "shard")
# From one small document (tens of milliseconds) to a full batch on a small machine.
_STEP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class IndexerMetrics:
    """Registered once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        introduce("indexer", registry)
        self.calls = CallMetrics("indexer", registry)
        self.triton = InferenceMetrics("indexer", registry)
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
            "Changes accepted but not yet published.",
            _SHARD,
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "trireme_indexer_lag_seconds",
            "Age of the oldest change that is accepted but not yet published.",
            _SHARD,
            registry=registry,
        )
        self.stalled = Gauge(
            "trireme_indexer_stalled", "1 while a shard stands still.", _SHARD, registry=registry
        )
        self.generation = Gauge(
            "trireme_indexer_generation", "Published generation.", _SHARD, registry=registry
        )
        self.published = Gauge(
            "trireme_indexer_published_timestamp_seconds",
            "When the newest generation was published by this process, in seconds since 1970.",
            _SHARD,
            registry=registry,
        )
        self.segments = Gauge(
            "trireme_indexer_segments", "Segments of the index.", _SHARD, registry=registry
        )
        self.kept_bytes = Gauge(
            "trireme_indexer_index_bytes",
            "Bytes in the index store, of the generations that are kept and of young files.",
            _SHARD,
            registry=registry,
        )
        self.removed_bytes = Counter(
            "trireme_indexer_index_removed_bytes_total",
            "Bytes removed from the index store because no generation needs them any more.",
            _SHARD,
            registry=registry,
        )
        self.indexed = Counter(
            "trireme_indexer_documents_indexed_total",
            "Documents published to searchers.",
            registry=registry,
        )
        # Powers of two up to twice the default of batch_documents.
        self.batch_documents = Histogram(
            "trireme_indexer_batch_documents",
            "Documents in one published generation that were new to it.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
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
        self.merge_failures = Counter(
            "trireme_indexer_merge_failures_total",
            "Merges beside publication that failed and are tried again.",
            registry=registry,
        )
        self.kinds = Gauge(
            "trireme_indexer_vector_segments",
            "Segments of the index by the kind of their vector index.",
            (*_SHARD, "kind"),
            registry=registry,
        )
        self.recall = Gauge(
            "trireme_indexer_vector_recall_ratio",
            "Lowest recall@10 that was measured when a segment was sealed; 1 if all are exact.",
            _SHARD,
            registry=registry,
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
        self._of_shards = (
            self.lag,
            self.lag_seconds,
            self.stalled,
            self.generation,
            self.published,
            self.segments,
            self.kept_bytes,
            self.removed_bytes,
            self.kinds,
            self.recall,
        )

    def show_segments(self, found: VectorState, collection: str, shard: int) -> None:
        """Shows which kinds of vector index a shard has now."""
        for kind in KINDS:
            self.kinds.labels(collection, shard, kind).set(found.kinds.get(kind, 0))
        self.segments.labels(collection, shard).set(sum(found.kinds.values()))
        self.recall.labels(collection, shard).set(found.recall)

    def show_published(self, manifest: Manifest) -> None:
        """Shows which generation of a shard is the newest."""
        labels = (manifest.collection, manifest.shard)
        self.generation.labels(*labels).set(manifest.generation)
        self.published.labels(*labels).set(manifest.created_at)

    def forget(self, collection: str) -> None:
        """Drops the values of an index that is gone."""
        for metric in self._of_shards:
            metric.remove_by_labels({"collection": collection})

    def watch(self, lag: Lag, collection: str, shard: int) -> None:
        """Shows how far a shard is behind, as it is whenever somebody asks."""
        self.lag.labels(collection, shard).set_function(lambda: lag.changes)
        self.lag_seconds.labels(collection, shard).set_function(lag.seconds)
