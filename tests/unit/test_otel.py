"""Spans are recorded where the standard variables name a collector, and nowhere else."""

from __future__ import annotations

import sys

import pytest

from core import otel, tracing
from core.errors import BadEnvironment

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_a_span_is_nothing(environment: dict[str, str]) -> None:
    stop = otel.start("gateway", environment)

    assert tracing.span("search") is tracing.NOTHING
    stop()


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    environment = {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}

    with pytest.raises(BadEnvironment, match="sent as grpc only") as caught:
        otel.start("gateway", environment)

    assert caught.value.field == "OTEL_EXPORTER_OTLP_PROTOCOL"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "core.spans", None)

    with pytest.raises(BadEnvironment, match=r"pip install 'trireme\[otel\]'") as caught:
        otel.start("gateway", ENDPOINT)

    assert caught.value.field == "OTEL_EXPORTER_OTLP_ENDPOINT"


def test_only_what_is_sampled_costs_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    stop = otel.start("gateway", ENDPOINT)
    try:
        with tracing.arrival("S/M", []):
            assert tracing.request_id()
            assert tracing.exemplar() is None
            assert tracing.span("search") is tracing.NOTHING
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with tracing.follow("S/M", parent):
            arrived = tracing.traceparent()
            with tracing.span("search"):
                within = tracing.traceparent()
            assert tracing.traceparent() == arrived
    finally:
        stop()

    assert len({parent, arrived, within}) == 3
    assert {each.split("-")[1] for each in (parent, arrived, within)} == {parent.split("-")[1]}
