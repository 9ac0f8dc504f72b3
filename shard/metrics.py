"""All of a shard's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.errors import CorruptFile, IndexStoreUnavailable
from core.manifest import Manifest
from core.metrics import Bound, CallMetrics, introduce

_COLLECTION = ("collection",)


class ShardMetrics:
    """What a shard counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        introduce("shard", self.registry)
        self.calls = CallMetrics("shard", self.registry)
        self.generation = self._gauge("generation", "Newest generation that is open.")
        self.created = self._gauge(
            "generation_created_timestamp_seconds",
            "When the newest generation that is open was made, in seconds since 1970.",
        )
        self.sequence = self._gauge("sequence", "Last change that the newest generation covers.")
        self.documents = self._gauge("documents", "Live documents.")
        self.passages = self._gauge("passages", "Live passages.")
        self.refused = self._gauge(
            "generation_refused", "1 while the newest published generation cannot be opened."
        )
        self.open_generations = Gauge(
            "trireme_shard_open_generations",
            "Generations held open, replaced ones included.",
            registry=self.registry,
        )
        self.archived_generations = Gauge(
            "trireme_shard_archived_generations",
            "Replaced generations whose documents can still be fetched for later pages.",
            registry=self.registry,
        )
        # From a few new documents (10 ms) to a first load of many gigabytes (minutes).
        self.adopt_seconds = Histogram(
            "trireme_shard_adopt_seconds",
            "Time to verify and open a generation.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20, 60, 300),
            registry=self.registry,
        )
        self.adopt_failures = Counter(
            "trireme_shard_adopt_failures_total",
            "Generations, or collections, that could not be opened, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in (CorruptFile.reason, IndexStoreUnavailable.reason, "INTERNAL"):
            self.adopt_failures.labels(reason)
        # From a lexical search of a small shard (0.1 ms) to an exact scan of a large one (0.5 s).
        search_seconds = Histogram(
            "trireme_shard_search_seconds",
            "Time of the search itself, without waiting, by leg.",
            ("leg",),
            buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
            registry=self.registry,
        )
        self.search_seconds = Bound(search_seconds)
        self.searches_in_threads = Gauge(
            "trireme_shard_searches_in_threads",
            "Searches that run in threads or wait for one; small ones run without.",
            registry=self.registry,
        )

        self.placed = Counter(
            "trireme_shard_segments_placed_total",
            "Segments opened, by where they are searched: gpu, or why not there.",
            ("place",),
            registry=self.registry,
        )
        self.gpu_bytes = Gauge(
            "trireme_shard_gpu_bytes",
            "Memory that copies of vector indexes take on GPUs, about.",
            registry=self.registry,
        )
        self.gpu_fallbacks = Counter(
            "trireme_shard_gpu_fallbacks_total",
            "Searches of segments on GPUs that the CPU answered, by reason.",
            ("reason",),
            registry=self.registry,
        )

        # The default target is .98; one of 10 missed by one of a few segments is above .9.
        self.recall = Histogram(
            "trireme_shard_vector_recall_ratio",
            "Share of the 10 nearest passages of each sealed segment found, for sampled searches.",
            _COLLECTION,
            buckets=(0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1),
            registry=self.registry,
        )
        self.recall_skipped = Counter(
            "trireme_shard_vector_recall_skipped_total",
            "Measurements of recall that were left out because too many searches waited.",
            registry=self.registry,
        )
        self.sealed_recall = self._gauge(
            "vector_sealed_recall_ratio",
            "Lowest recall@10 that was measured when a segment was sealed; 1 if all are exact.",
        )

    def serve(self, manifest: Manifest) -> None:
        """Notes the generation that is served from now on."""
        name = manifest.collection
        self.generation.labels(name).set(manifest.generation)
        self.created.labels(name).set(manifest.created_at)
        self.sequence.labels(name).set(manifest.sequence)
        self.documents.labels(name).set(manifest.documents)
        self.passages.labels(name).set(manifest.passages)
        measured = [each.index.recall for each in manifest.segments if each.index is not None]
        self.recall.labels(name)  # shown before the first sample
        self.sealed_recall.labels(name).set(min(measured, default=1.0))

    def forget(self, collection: str) -> None:
        """Drops the values of a collection that is no longer served."""
        for metric in (
            self.generation,
            self.created,
            self.sequence,
            self.documents,
            self.passages,
            self.refused,
            self.sealed_recall,
            self.recall,
        ):
            metric.remove_by_labels({"collection": collection})

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"trireme_shard_{name}", documentation, _COLLECTION, registry=self.registry)
