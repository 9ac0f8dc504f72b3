"""What a query went through: stage times and shortfalls, gathered as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType

from core import tracing
from gateway.query import Degradation, Timing

WAIT = "wait"
ENCODE = "encode"
ENCODE_SPARSE = "encode_sparse"
STATISTICS = "statistics"
LEXICAL = "lexical"
DENSE = "dense"
SPARSE = "sparse"
GROUP = "group"
FILTER = "filter"
FUSE = "fuse"
FETCH = "fetch"
RERANK = "rerank"
STAGES = (
    WAIT,
    ENCODE,
    ENCODE_SPARSE,
    STATISTICS,
    LEXICAL,
    DENSE,
    SPARSE,
    GROUP,
    FUSE,
    FETCH,
    RERANK,
)


class Span:
    """One stage while it runs; `inner_microseconds` may be set meanwhile."""

    def __init__(self, diary: Trace, name: str) -> None:
        self.inner_microseconds = 0
        self._diary = diary
        self._name = name
        self._recorded = tracing.span(name)
        self._began = 0

    def __enter__(self) -> Span:
        self._began = self._diary.elapsed_microseconds()
        self._recorded.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._recorded.__exit__(kind, error, traceback)
        took = self._diary.elapsed_microseconds() - self._began
        self._diary.note(Timing(self._name, self._began, took, self.inner_microseconds))


class Trace:
    """The diary of one query, from its arrival on."""

    def __init__(self) -> None:
        self._arrived = time.perf_counter_ns()
        self._timings: list[Timing] = []
        self._degraded: dict[tuple[str, str], Degradation] = {}

    def stage(self, name: str) -> Span:
        """Times one stage, also if it fails; it is a span of the call's trace, too."""
        return Span(self, name)

    def note(self, timing: Timing) -> None:
        """Takes the time of a stage that is over."""
        self._timings.append(timing)

    def degrade(self, shortfalls: Iterable[Degradation]) -> None:
        """Notes shortfalls; those of one stage and reason become one, with all their shards."""
        for new in shortfalls:
            key = (new.stage, new.reason)
            old = self._degraded.get(key)
            shards = sorted({*old.shards, *new.shards} if old else new.shards)
            message = f"{old.message}; {new.message}" if old else new.message
            self._degraded[key] = Degradation(new.stage, new.reason, message, tuple(shards))

    def include(self, other: Trace) -> None:
        """Takes over what a diary of a part of the query, begun later, has noted."""
        later = (other._arrived - self._arrived) // 1000
        self._timings += [
            replace(timing, start_microseconds=timing.start_microseconds + later)
            for timing in other._timings
        ]
        self.degrade(other.degraded)

    def elapsed_microseconds(self) -> int:
        """Time since the query arrived."""
        return (time.perf_counter_ns() - self._arrived) // 1000

    @property
    def timings(self) -> list[Timing]:
        """Finished stages in order of their start."""
        return sorted(self._timings, key=lambda timing: timing.start_microseconds)

    @property
    def degraded(self) -> list[Degradation]:
        """Shortfalls in the order of the stages."""
        return sorted(self._degraded.values(), key=lambda d: STAGES.index(d.stage))
