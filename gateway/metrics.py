"""Everything the gateway measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core import tracing
from core.metrics import Bound, CallMetrics, InferenceMetrics, introduce
from gateway import trace
from gateway.query import Answer

# What is told from the start: a counter that appears with its first event hides that event.
_LANES = ("interactive", "batch", "backfill")
_SHED_REASONS = ("FULL", "DISPLACED", "DEADLINE")
_SECOND_CALLS = (
    *(
        (reason, outcome)
        for reason in ("late", "away", "generation")
        for outcome in ("won", "lost")
    ),
    ("late", "refused"),
)
_SHORTFALLS = (
    (trace.WAIT, "NOT_YET_INDEXED"),
    *(
        (stage, reason)
        for stage in (trace.ENCODE, trace.RERANK)
        for reason in ("OUT_OF_TIME", "TRITON_UNAVAILABLE")
    ),
    *(
        (stage, reason)
        for stage in (trace.STATISTICS, trace.LEXICAL, trace.DENSE, trace.SPARSE, trace.FETCH)
        for reason in ("OUT_OF_TIME", "SHARD_UNAVAILABLE")
    ),
)


class GatewayMetrics:
    """One object per process; `registry` is what the metrics page shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        introduce("gateway", self.registry)
        self.calls = CallMetrics("gateway", self.registry)
        self.triton = InferenceMetrics("gateway", self.registry)
        # From a merge of two short lists (50 us) to the longest deadline.
        stage_seconds = Histogram(
            "trireme_gateway_stage_duration_seconds",
            "Time of one stage of a search.",
            ("stage",),
            buckets=(0.00005, 0.0002, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2, 10),
            registry=self.registry,
        )
        self.stage_seconds = Bound(stage_seconds)
        # From an answer of a small shard on the same machine to what no search waits for.
        shard_seconds = Histogram(
            "trireme_gateway_shard_call_duration_seconds",
            "Time until a shard answered one part of a search, hedges included, by leg and shard.",
            ("leg", "shard"),
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 2),
            registry=self.registry,
        )
        self.shard_seconds = Bound(shard_seconds)
        answers = Counter(
            "trireme_gateway_answers_total",
            "Answered searches, batches and streams included: complete or degraded.",
            ("outcome",),
            registry=self.registry,
        )
        self.answers = Bound(answers, [("complete",), ("degraded",)])
        degraded = Counter(
            "trireme_gateway_degraded_total",
            "Shortfalls in answers.",
            ("stage", "reason"),
            registry=self.registry,
        )
        self.degraded = Bound(degraded, _SHORTFALLS)
        self.slow_searches = Counter(
            "trireme_gateway_slow_searches_total",
            "Answered searches that took longer than slow_search_seconds.",
            registry=self.registry,
        )
        # Depths that can be asked for.
        self.rerank_documents = Histogram(
            "trireme_gateway_rerank_documents",
            "Documents reranked per search that asked for it.",
            buckets=(0, 1, 5, 10, 20, 50, 100, 200),
            registry=self.registry,
        )
        lookups = Counter(
            "trireme_gateway_embedding_cache_lookups_total",
            "Texts looked up: hit, shared with an equal one that was just computed, or miss.",
            ("outcome",),
            registry=self.registry,
        )
        self.embedding_cache_lookups = Bound(lookups, [("hit",), ("shared",), ("miss",)])
        word_lookups = Counter(
            "trireme_gateway_word_statistics_lookups_total",
            "Queries of several shards by whether all words' counts were known, or shards asked.",
            ("outcome",),
            registry=self.registry,
        )
        self.word_statistics_lookups = Bound(word_lookups, [("hit",), ("miss",)])
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

        second_calls = Counter(
            "trireme_gateway_second_calls_total",
            "Calls to a shard made again at another replica because the first was late, away, or "
            "answered from another generation: won, lost to the first, or refused by the budget.",
            ("reason", "outcome"),
            registry=self.registry,
        )
        self.second_calls = Bound(second_calls, _SECOND_CALLS)
        self.http_requests = Counter(
            "trireme_gateway_http_requests_total",
            "Answered HTTP requests.",
            ("path", "status"),
            registry=self.registry,
        )
        self.silent_peers = Gauge(
            "trireme_gateway_silent_peers",
            "1 while a shard, Triton or a model in it answers nothing and is not waited for.",
            ("peer",),
            registry=self.registry,
        )
        self._admission()

    def observe(self, answer: Answer) -> None:
        """Counts one answered search."""
        exemplar = tracing.exemplar()
        for timing in answer.timings:
            self.stage_seconds(timing.stage).observe(timing.microseconds / 1e6, exemplar)
        for shortfall in answer.degraded:
            self.degraded(shortfall.stage, shortfall.reason).inc()
        self.answers("degraded" if answer.degraded else "complete").inc()
        # Not on later pages, which only show what was reranked for the first.
        if any(timing.stage == trace.RERANK for timing in answer.timings):
            self.rerank_documents.observe(answer.reranked)

    def _admission(self) -> None:
        """What is let in, waits and is shed, in units of work: a search is one."""
        lanes = [(lane,) for lane in _LANES]
        self.admission_limit = Gauge(
            "trireme_gateway_admission_limit",
            "Units of work that may be under way at once.",
            registry=self.registry,
        )
        admitted = Gauge(
            "trireme_gateway_admission_taken",
            "Units of work under way, by lane.",
            ("lane",),
            registry=self.registry,
        )
        self.admitted = Bound(admitted, lanes)
        waiting = Gauge(
            "trireme_gateway_admission_waiting",
            "Requests that wait to be let in, by lane.",
            ("lane",),
            registry=self.registry,
        )
        self.waiting = Bound(waiting, lanes)
        # Longer than half an answer nobody waits who has a deadline.
        wait_seconds = Histogram(
            "trireme_gateway_admission_wait_seconds",
            "Time that a request which had to wait waited until it was let in.",
            ("lane",),
            buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
            registry=self.registry,
        )
        self.admission_wait_seconds = Bound(wait_seconds, lanes)
        shed = Counter(
            "trireme_gateway_shed_total",
            "Requests that were sent away unanswered: the queue was full, somebody with a larger "
            "share needed the place, or there was no time left.",
            ("lane", "reason"),
            registry=self.registry,
        )
        known = [(lane, reason) for lane in _LANES for reason in _SHED_REASONS]
        self.shed = Bound(shed, known)


class WorkersMetrics:
    """What the parent of several workers measures itself; the rest of its page is theirs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.restarts = Counter(
            "trireme_gateway_worker_restarts_total",
            "Workers that were started again because they had ended.",
            registry=self.registry,
        )
