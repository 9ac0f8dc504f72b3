"""What watching costs one hybrid search in the gateway: its metrics, and its trace off and on.

    python -m tests.load.observability

Everything that one search over two shards counts and traces is done again and again, in one thread;
the time is that of the processor, the least of several rounds. With OpenTelemetry on, spans go to
no collector: sending them is the work of another thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from core import otel, tracing
from core.tracing import PARENT
from gateway.fusion import FusionSettings
from gateway.metrics import GatewayMetrics
from gateway.query import Answer, RerankSettings, Timing
from gateway.slow_log import SlowLog

ROUNDS, SEARCHES = 7, 2_000
# What a search may cost the gateway in all, in microseconds.
BUDGET = 2_500
SHARDS = ("0", "1")
STAGES = ("encode", "statistics", "lexical", "dense", "fuse", "fetch", "rerank")
METHOD = "/trireme.v1.SearchService/Search"
NAME = METHOD.lstrip("/")
ANSWER = Answer(
    hits=[],
    groups=[],
    degraded=[],
    timings=[Timing(stage, 100, 2_000) for stage in STAGES],
    total_microseconds=20_000,
    shards=[],
    fusion=FusionSettings(),
    rerank=RerankSettings(enabled=True, depth=20, weight=0.3),
    reranked=20,
    window=100,
    coverage=1.0,
    candidate_count=100,
    encoder=None,
    sparse_encoder=None,
    reranker=None,
)


def main() -> None:
    logging.disable(logging.CRITICAL)
    costs = {"metrics": _cost(_measured(GatewayMetrics())), "tracing_off": _cost(_traced("00"))}
    stop = otel.start("gateway", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    costs["tracing_on_not_recorded"] = _cost(_traced("00"))
    costs["tracing_on_recorded"] = _cost(_traced("01"))
    stop()
    print(json.dumps({name: _figure(cost) for name, cost in costs.items()}, indent=2))


def _figure(microseconds: float) -> dict[str, float]:
    share = 100 * microseconds / BUDGET
    return {"microseconds": round(microseconds, 1), "percent_of_budget": round(share, 2)}


def _cost(search: Callable[[], None]) -> float:
    """Microseconds of one search."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(SEARCHES):
            search()
        rounds.append((time.thread_time() - began) / SEARCHES)
    return min(rounds) * 1e6


def _measured(metrics: GatewayMetrics) -> Callable[[], None]:
    slow_log = SlowLog(1.0, metrics, with_text=False)

    def search() -> None:
        begun = metrics.calls.begin()
        for leg in ("statistics", "lexical", "dense"):
            for shard in SHARDS:
                metrics.shard_seconds(leg, shard).observe(0.002, tracing.exemplar())
        for model in ("bi_encoder", "cross_encoder"):
            metrics.triton.answered(model, 1, 0.005)
        metrics.embedding_cache_lookups("miss").inc()
        metrics.observe(ANSWER)
        slow_log.note("papers", "who rowed?", ANSWER)
        metrics.calls.end(METHOD, begun, "OK")

    return search


def _traced(flags: str) -> Callable[[], None]:
    parent = f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"
    headers = [("user-agent", "grpc"), ("accept-encoding", "gzip"), (PARENT, parent)]

    def search() -> None:
        with tracing.arrival(NAME, headers):
            for stage in STAGES:
                with tracing.span(stage):
                    for _ in SHARDS:
                        tracing.traceparent()
            for model in ("bi_encoder", "cross_encoder"):
                with tracing.span("triton", model=model, rows=1):
                    tracing.request_id()
                    tracing.recorded()

    return search


if __name__ == "__main__":
    main()
