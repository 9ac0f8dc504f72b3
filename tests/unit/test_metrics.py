"""What pages show before anything has happened, and when something is gone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from core import tracing
from core.metrics import Bound, CallMetrics, InferenceMetrics
from gateway.metrics import GatewayMetrics
from indexer.lag import Lag
from indexer.metrics import IndexerMetrics

METHOD = "/trireme.v1.SearchService/Search"


def test_known_children_are_shown_from_the_start_and_bound_once() -> None:
    registry = CollectorRegistry()
    shed = Bound(Counter("shed_total", "Sent away.", ("lane",), registry=registry), [("batch",)])

    assert registry.get_sample_value("shed_total", {"lane": "batch"}) == 0
    assert shed("batch") is shed("batch")
    shed("batch").inc()
    assert registry.get_sample_value("shed_total", {"lane": "batch"}) == 1


def test_the_first_fault_of_a_method_is_an_increase() -> None:
    registry = CollectorRegistry()
    calls = CallMetrics("gateway", registry)

    calls.end(METHOD, calls.begin(), "OK")

    labels = {"method": METHOD, "code": "INTERNAL"}
    assert registry.get_sample_value("trireme_gateway_calls_total", labels) == 0
    assert registry.get_sample_value("trireme_gateway_calls_in_flight") == 0


def test_the_first_failure_of_a_model_is_an_increase() -> None:
    registry = CollectorRegistry()

    InferenceMetrics("gateway", registry).answered("bi_encoder", 3, 0.01)

    labels = {"model": "bi_encoder", "reason": "TRITON_UNAVAILABLE"}
    sample = registry.get_sample_value
    assert sample("trireme_gateway_triton_failures_total", labels) == 0
    assert sample("trireme_gateway_triton_rows_sum", {"model": "bi_encoder"}) == 3


def test_a_measurement_is_tied_to_a_recorded_trace_only() -> None:
    calls = CallMetrics("gateway", CollectorRegistry())

    def tied(flags: str) -> list[object]:
        with tracing.follow("S/M", f"00-{'a' * 32}-{'b' * 16}-{flags}"):
            calls.end(METHOD, calls.begin(), "OK")
        tracing.settle(None)
        (family,) = calls.seconds.metric.collect()
        return [sample.exemplar for sample in family.samples if sample.exemplar]

    assert tied("00") == []
    assert len(tied("01")) == 1


def test_an_index_that_is_gone_is_shown_no_more() -> None:
    registry = CollectorRegistry()
    metrics = IndexerMetrics(registry)
    for name in ("papers", "ships"):
        metrics.watch(Lag(), name, 0)

    metrics.forget("papers")

    def lag(name: str) -> float | None:
        labels = {"collection": name, "shard": "0"}
        return registry.get_sample_value("trireme_indexer_lag_changes", labels)

    assert (lag("papers"), lag("ships")) == (None, 0)


def test_a_page_names_the_version_that_runs() -> None:
    (family,) = [f for f in GatewayMetrics().registry.collect() if f.name == "trireme_build_info"]

    (sample,) = family.samples
    assert sample.labels["role"] == "gateway"
    assert sample.labels["version"]
