"""Spans of OpenTelemetry's SDK, made as `core.tracing` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from core import tracing
from core.errors import TriremeError
from core.metrics import release
from core.tracing import Attribute, Running, Trail


def provider_of(attributes: dict[str, str]) -> TracerProvider:
    """Sends spans with these attributes of their process to the collector that OTEL_* name."""
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class OtelTracer:
    """A `tracing.Tracer` over the SDK; which span runs, `core.tracing` knows."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("trireme", release())

    def arrival(self, name: str, given: Trail | None) -> Running:
        """As the protocol says."""
        service, _, method = name.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        span = self._tracer.start_span(name, _context(given), trace.SpanKind.SERVER, attributes)
        if span.is_recording():
            return _running(span, lasting=True)
        tracing.settle(_trail(span, None))
        return tracing.NOTHING

    def span(self, name: str, within: Trail | None, attributes: dict[str, Attribute]) -> Running:
        """As the protocol says."""
        span = self._tracer.start_span(name, _context(within), attributes=attributes)
        return _running(span) if span.is_recording() else tracing.NOTHING


@contextmanager
def _running(span: trace.Span, *, lasting: bool = False) -> Iterator[None]:
    """Settles the task for the span and ends it; the former holds on if that is `lasting`."""
    before = tracing.current()
    tracing.settle(_trail(span, trace.set_span_in_context(span, Context())))
    try:
        yield
    except Exception as error:
        # What an exception says may quote a query: only its reason is told.
        reason = error.reason if isinstance(error, TriremeError) else type(error).__name__
        span.set_status(trace.StatusCode.ERROR, reason)
        raise
    finally:
        span.end()
        if not lasting:
            tracing.settle(before)


def _context(within: Trail | None) -> Context:
    """What a child of that begins in; without that, a trace of its own."""
    if within is None or within.sampled is None:
        return Context()
    if isinstance(within.place, Context):
        return within.place
    found = trace.SpanContext(
        trace_id=int(within.trace_id, 16),
        span_id=int(within.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(1 if within.sampled else 0),
        trace_state=trace.TraceState.from_header([within.state]),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(found), Context())


def _trail(span: trace.Span, place: Context | None) -> Trail:
    found = span.get_span_context()
    return Trail(
        f"{found.trace_id:032x}",
        f"{found.span_id:016x}",
        found.trace_flags.sampled,
        found.trace_state.to_header(),
        place,
    )
