"""How the time of a search is spent: pure functions, time is an argument.

A stage that may hang gets a share of what is left, never all of it, so that the stages after it can
still make an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.deadline import Deadline

# What the gateway itself needs at the end, to build and send the reply.
REPLY_SECONDS = 0.02
# Waiting for writes and embedding the query are given up early enough for the legs.
WAIT_SHARE = 0.6
ENCODE_SHARE = 0.5
# A late shard is given up early enough for fetching what the others found.
LEG_SHARE = 0.7
# More documents than this are not guessed but fetched: too much would be moved in vain.
MAX_LIKELY_HEAD = 50
# Before anything was measured: two CPU cores and a small model.
ASSUMED_TOKENS_PER_SECOND = 4_000.0


def share(deadline: Deadline, fraction: float) -> Deadline:
    """A deadline after `fraction` of the time left before the reply must be built."""
    usable = deadline.earlier_by(REPLY_SECONDS)
    return usable.at_most(usable.remaining() * fraction)


def plan_depth(token_counts: Sequence[int], tokens_per_second: float, seconds_left: float) -> int:
    """The most documents from the head whose tokens fit into the time left.

    `token_counts` are the tokens of each pair of query and passage, padding not counted.
    """
    budget = tokens_per_second * seconds_left
    depth = 0
    for count in token_counts:
        budget -= count
        if budget < 0:
            break
        depth += 1
    return depth


class Speed:
    """Tokens per second of a model, as an exponentially weighted mean of what was measured."""

    def __init__(self, tokens_per_second: float = ASSUMED_TOKENS_PER_SECOND) -> None:
        self.tokens_per_second = tokens_per_second

    def observe(self, tokens: int, seconds: float, *, weight: float = 0.2) -> None:
        """Takes one measurement into account."""
        if tokens > 0 and seconds > 0:
            measured = tokens / seconds
            self.tokens_per_second += weight * (measured - self.tokens_per_second)

    def __repr__(self) -> str:
        return f"<Speed {self.tokens_per_second:.0f} tokens/s>"
