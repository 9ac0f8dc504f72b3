"""What BM25 needs to know of the whole collection, added up over its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from core.deadline import Deadline
from gateway import trace
from gateway.gathering import gather
from gateway.query import Degradation
from gateway.view import Target, View
from trireme.shard.v1 import shard_pb2

Statistics = shard_pb2.LexicalStatistics


async def gather_statistics(
    view: View, text: str, deadline: Deadline
) -> tuple[Statistics | None, Sequence[Degradation]]:
    """The statistics of a query's words over all shards that answer, and which did not.

    None if none of them has a document: then each may as well use its own. Nobody is asked for
    words whose counts are known from earlier queries.
    """
    known = view.statistics.known(text)
    if known is not None:
        return known, ()

    def ask(target: Target) -> shard_pb2.CountTermsRequest:
        return shard_pb2.CountTermsRequest(
            collection=view.collection, generation=target.generation, query=text
        )

    gathered = await gather(
        view.targets,
        trace.STATISTICS,
        lambda target, line: line.count_terms(ask(target), deadline.remaining()),
    )
    total = added_up(reply.statistics for reply in gathered.replies.values())
    used = [reply.generation for reply in gathered.replies.values()]
    if [(each.epoch, each.generation) for each in used] == view.generations:
        view.statistics.learn(total)
    return total if total.document_count else None, gathered.missing


def added_up(parts: Iterable[Statistics]) -> Statistics:
    """The sum of several shards' statistics of one query."""
    documents = length = 0
    frequencies: Counter[str] = Counter()
    for part in parts:
        documents += part.document_count
        length += part.total_length
        frequencies.update(dict(zip(part.terms, part.document_frequencies, strict=True)))
    terms = sorted(frequencies)
    return Statistics(
        document_count=documents,
        total_length=length,
        terms=terms,
        document_frequencies=[frequencies[term] for term in terms],
    )
