"""How the time of a search is spent: pure functions, time is an argument.

A stage that may hang gets a share of what is left, never all of it, so that the stages after it can
still make an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.batching import INSTANCES, TOKENS_PER_REQUEST
from core.deadline import Deadline
from gateway.recent import Recent

# Waiting for writes and embedding the query are given up early enough for the legs.
WAIT_SHARE = 0.6
ENCODE_SHARE = 0.5
# Counting words as well: the lexical leg can do with the counts of the other shards.
STATISTICS_SHARE = 0.4
# A late shard is given up early enough for fetching what the others found.
LEG_SHARE = 0.7
# A shard that stops between its legs and the fetch leaves something for reranking the others' hits.
FETCH_SHARE = 0.7
# Marking the query's words takes one more call to the shards after reranking.
RERANK_SHARE_BEFORE_HIGHLIGHTS = 0.8
# More documents than this are not guessed but fetched: too much would be moved in vain.
MAX_LIKELY_HEAD = 50
# Before anything was measured: two CPU cores and a small model.
ASSUMED_TOKENS_PER_SECOND = 4_000.0
# Nine reranks in ten are at least as fast as planned; what the tenth scores in time counts as well.
SLOW_QUANTILE = 0.1
# What a rerank costs whatever its size: on the way to Triton and back.
CALL_SECONDS = 0.003
# Smaller requests would cost more than spreading them over the instances of a model saves.
LEAST_CHUNK_TOKENS = 128
# A further round of reranking gives every instance at least this.
LEAST_ROUND_TOKENS = INSTANCES * LEAST_CHUNK_TOKENS


def share(deadline: Deadline, fraction: float) -> Deadline:
    """A deadline after `fraction` of the time that is left."""
    return deadline.at_most(deadline.remaining() * fraction)


def plan_depth(token_counts: Sequence[int], tokens: float) -> int:
    """The most documents from the head that together have no more than so many tokens.

    `token_counts` are the tokens of each pair of query and passage, padding not counted.
    """
    depth = 0
    for count in token_counts:
        tokens -= count
        if tokens < 0:
            break
        depth += 1
    return depth


def is_worth_a_round(depth: int, wanted: int, tokens: float, *, first: bool) -> bool:
    """Whether to score `depth` of `wanted` documents now that there is time for so many tokens.

    A further round must be of some size, or else finish the head.
    """
    return depth > 0 and (first or depth == wanted or tokens >= LEAST_ROUND_TOKENS)


def plan_chunks(token_counts: Sequence[int], rows: range) -> list[slice]:
    """Cuts some rows into runs that are scored one after the other, the best documents first.

    So what was scored when time runs out is the head of the head. All instances of the model get
    work if there is enough of it; a run exceeds TOKENS_PER_REQUEST only if one document does.
    """
    share = -(-sum(token_counts[rows.start : rows.stop]) // INSTANCES)
    most = min(TOKENS_PER_REQUEST, max(LEAST_CHUNK_TOKENS, share))
    chunks: list[slice] = []
    start, filled = rows.start, 0
    for number in rows:
        if number > start and filled + token_counts[number] > most:
            chunks.append(slice(start, number))
            start, filled = number, 0
        filled += token_counts[number]
    if rows:
        chunks.append(slice(start, rows.stop))
    return chunks


class Pace:
    """How fast one model reranks, as measured, and what is queued for it now.

    A measurement is the tokens of one rerank, and of those that were queued before it, by its time.
    The pace is a low quantile of the last ones, so that the spread of the times is allowed for.
    """

    def __init__(self, tokens_per_second: float = ASSUMED_TOKENS_PER_SECOND) -> None:
        self.queued_tokens = 0
        self._speeds = Recent(SLOW_QUANTILE, tokens_per_second, refresh=1)

    @property
    def tokens_per_second(self) -> float:
        """What nearly every rerank reaches."""
        return self._speeds.value

    def tokens_within(self, seconds: float) -> float:
        """How many tokens more can be scored in so many seconds."""
        return self._speeds.value * (seconds - CALL_SECONDS) - self.queued_tokens

    def observe(self, tokens: int, queued_before: int, seconds: float) -> None:
        """Takes one rerank into account."""
        if tokens > 0 and seconds > CALL_SECONDS:
            self._speeds.observe((tokens + queued_before) / (seconds - CALL_SECONDS))

    def found_too_slow(self, tokens: int, seconds: float) -> None:
        """Notes that not even so many tokens were thought possible.

        If the best measurement says otherwise, the worst one is forgotten: without reranks there
        would be no new measurements, and a slow minute would never be over.
        """
        if self._speeds.greatest * (seconds - CALL_SECONDS) >= tokens + self.queued_tokens:
            self._speeds.forget_least()

    def __repr__(self) -> str:
        return f"<Pace {self.tokens_per_second:.0f} tokens/s, {self.queued_tokens} queued>"
