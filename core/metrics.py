"""What the metrics of every role share: cheap labels, counts of calls, who this process is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Generic, Protocol, Self, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from core import tracing
from core.errors import BadModelOutput, OutOfTime, TritonUnavailable

log = logging.getLogger(__name__)


class _Labelled(Protocol):
    def labels(self, *values: str) -> Self: ...


Metric = TypeVar("Metric", bound=_Labelled)


class Bound(Generic[Metric]):
    """A metric's children by their labels' values; half as dear as asking the metric each time.

    Not for metrics whose children are removed again.
    """

    def __init__(self, metric: Metric, known: Iterable[tuple[str, ...]] = ()) -> None:
        """The children of `known` values are there from the start."""
        self.metric = metric
        self._children = {values: metric.labels(*values) for values in known}

    def __call__(self, *values: str) -> Metric:
        """The child with these values, in the order of the metric's labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self.metric.labels(*values)
        return child


class CallMetrics:
    """Counts the calls of one role."""

    def __init__(self, role: str, registry: CollectorRegistry) -> None:
        total = Counter(
            f"trireme_{role}_calls_total",
            "Finished calls, by gRPC method and status code.",
            ("method", "code"),
            registry=registry,
        )
        # From a cached embedding (a millisecond) to the longest deadline (30 s).
        seconds = Histogram(
            f"trireme_{role}_call_duration_seconds",
            "Time from a call's arrival to its end.",
            ("method",),
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=registry,
        )
        self._seen: set[str] = set()
        self.total = Bound(total)
        self.seconds = Bound(seconds)
        self.in_flight = Gauge(
            f"trireme_{role}_calls_in_flight", "Calls not yet finished.", registry=registry
        )

    def begin(self) -> float:
        """Counts a call that has arrived; returns what `end` wants to know."""
        self.in_flight.inc()
        return time.perf_counter()

    def end(self, method: str, begun: float, code: str) -> None:
        """Counts a call that has ended with a status code, such as `OK`."""
        self.in_flight.dec()
        seconds = time.perf_counter() - begun
        self.seconds(method).observe(seconds, tracing.exemplar())
        if method not in self._seen:
            self._seen.add(method)
            # A counter that appears with its first event hides that event.
            self.total(method, "INTERNAL")
        self.total(method, code).inc()
        if log.isEnabledFor(logging.DEBUG):
            fields = {"method": method, "code": code, "milliseconds": round(seconds * 1e3, 3)}
            log.debug("call ended", extra=fields)


class InferenceMetrics:
    """Counts what one role asks of Triton."""

    def __init__(self, role: str, registry: CollectorRegistry) -> None:
        self._seen: set[str] = set()
        # From one query on a GPU (a millisecond) to a full request on a small CPU.
        self.seconds = Bound(
            Histogram(
                f"trireme_{role}_triton_duration_seconds",
                "Time from sending a request to Triton to its answer.",
                ("model",),
                buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
                registry=registry,
            )
        )
        # Powers of two up to the largest batch that models are exported with.
        self.rows = Bound(
            Histogram(
                f"trireme_{role}_triton_rows",
                "Texts, or pairs of query and passage, in one request to Triton.",
                ("model",),
                buckets=(1, 2, 4, 8, 16, 32, 64, 128),
                registry=registry,
            )
        )
        self.failures = Bound(
            Counter(
                f"trireme_{role}_triton_failures_total",
                "Requests to Triton that failed, by reason.",
                ("model", "reason"),
                registry=registry,
            )
        )

    def answered(self, model: str, rows: int, seconds: float) -> None:
        """Notes a request that Triton answered."""
        if model not in self._seen:
            self._seen.add(model)
            for reason in (OutOfTime.reason, TritonUnavailable.reason, BadModelOutput.reason):
                self.failures(model, reason)
        self.seconds(model).observe(seconds, tracing.exemplar())
        self.rows(model).observe(rows)


def introduce(role: str, registry: CollectorRegistry) -> None:
    """Adds who the process is, and what it takes of its machine."""
    ProcessCollector(registry=registry)
    Gauge(
        "trireme_build_info",
        "Always 1; its labels name the role and the version that runs.",
        ("role", "version"),
        registry=registry,
    ).labels(role, release()).set(1)


def release() -> str:
    """The version of this software."""
    try:
        return version("trireme")
    except PackageNotFoundError:
        return "unknown"
