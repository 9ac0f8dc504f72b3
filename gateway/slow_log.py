"""A log line for every search that took long, with what explains it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.metrics import GatewayMetrics
from gateway.query import Answer, Timing

log = logging.getLogger(__name__)

# When everything is slow, more lines say nothing new.
LINES_PER_SECOND = 5.0


class SlowLog:
    """`note` every answered search; those of `seconds` and more are logged. 0: none are.

    What people search for stays out of the log unless `with_text` says otherwise.
    """

    def __init__(
        self,
        seconds: float,
        metrics: GatewayMetrics,
        *,
        with_text: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._microseconds = seconds * 1e6
        self._metrics = metrics
        self._with_text = with_text
        self._clock = clock
        self._may_log_at = 0.0
        self._left_out = 0

    def note(self, collection: str, text: str, answer: Answer) -> None:
        """Counts and logs a search that was slow."""
        if not self._microseconds or answer.total_microseconds < self._microseconds:
            return
        self._metrics.slow_searches.inc()
        now = self._clock()
        if now < self._may_log_at:
            self._left_out += 1
            return
        self._may_log_at = now + 1 / LINES_PER_SECOND
        said = {"query": text} if self._with_text else {"query_characters": len(text)}
        left_out = {"lines_left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        fields = {"collection": collection, **said, **explained(answer), **left_out}
        log.warning("slow search", extra=fields)


def explained(answer: Answer) -> Mapping[str, Any]:
    """Where the time of a search went, and what it had to do; times in milliseconds."""
    return {
        "milliseconds": _milliseconds(answer.total_microseconds),
        "explanation": _summary(answer),
        "stages": [
            {
                "stage": timing.stage,
                "start": _milliseconds(timing.start_microseconds),
                "took": _milliseconds(timing.microseconds),
                "elsewhere": _milliseconds(timing.inner_microseconds),
            }
            for timing in answer.timings
        ],
        "degraded": [
            {"stage": each.stage, "reason": each.reason, "shards": list(each.shards)}
            for each in answer.degraded
        ],
        "shards": [
            {"shard": each.shard, "generation": each.generation, "complete": each.complete}
            for each in answer.shards
        ],
        "window": answer.window,
        "candidates": answer.candidate_count,
        "rerank_depth": answer.rerank.depth if answer.rerank.enabled else 0,
        "reranked": answer.reranked,
        "filtered": answer.filter_plan is not None,
    }


def _summary(answer: Answer) -> str:
    """The stage that took longest, in words."""
    longest = _longest(answer.timings)
    if longest is None:
        return "no stage was timed"
    whole, took = answer.total_microseconds, longest.microseconds
    told = f"{longest.stage} took {_milliseconds(took):g} of {_milliseconds(whole):g} ms"
    if longest.inner_microseconds:
        told += (
            f", {_milliseconds(longest.inner_microseconds):g} ms of it in the model or the index"
        )
    return told


def _longest(timings: Sequence[Timing]) -> Timing | None:
    return max(timings, key=lambda timing: timing.microseconds, default=None)


def _milliseconds(microseconds: int) -> float:
    return round(microseconds / 1000, 1)
