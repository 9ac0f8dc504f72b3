"""What a reply takes once there is no time left for more, so that it arrives by the deadline."""

from __future__ import annotations

import time
from typing import Any

import grpc

from core.deadline import Deadline
from gateway.query import Answer
from gateway.recent import Recent
from gateway.trace import RERANK

# What cannot be measured here: the way from the caller and back to it.
TRANSIT_SECONDS = 0.005
# What it takes on a busy machine; a quiet minute must not make the next busy one late.
LEAST_SECONDS = 0.01
# One reply in a hundred may take longer.
QUANTILE = 0.99
# Callers with time to spare lose little by a larger reserve, and it keeps more of them in time.
LEAST_SHARE = 0.04
# A reply that came too late would have needed more than there was, nobody knows how much.
MISSED_FACTOR = 1.5
MOST_SECONDS = 0.1
# Most of a short deadline is the search's: with half of 100 ms one in four failed.
MOST_SHARE = 0.2


class ReplyTime:
    """How long replies take from the end of reranking, or of their time, until they are sent."""

    def __init__(self) -> None:
        self._seconds = Recent(QUANTILE, LEAST_SECONDS)

    def before(self, deadline: Deadline) -> Deadline:
        """When a search must be done for its reply to arrive by `deadline`."""
        left = deadline.remaining()
        needed = TRANSIT_SECONDS + max(LEAST_SECONDS, LEAST_SHARE * left, self._seconds.value)
        return deadline.earlier_by(min(needed, MOST_SHARE * left))

    def measure(
        self, answer: Answer, deadline: Deadline, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Takes a reply into account that is now on its way; `deadline` was that of the search."""
        ends = [t.start_microseconds + t.microseconds for t in answer.timings if t.stage == RERANK]
        since_rerank = (answer.total_microseconds - max(ends)) / 1e6 if ends else 0.0
        began = min(deadline.at, time.monotonic() - since_rerank)

        def sent(_: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._seconds.observe(time.monotonic() - began)

        context.add_done_callback(sent)  # type: ignore[arg-type]  # a class in the stubs

    def missed(self, deadline: Deadline) -> None:
        """Takes a search into account whose caller went away, if the reason was its deadline."""
        late = time.monotonic() - deadline.at
        if late > 0:
            self._seconds.observe(min(MOST_SECONDS, MISSED_FACTOR * late))

    def __repr__(self) -> str:
        return f"<ReplyTime {self._seconds.value * 1000:.1f} ms>"
