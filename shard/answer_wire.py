"""Writes what was found into the messages of an answer, in place.

A message that is put into another one is serialised and parsed, head and all; one that is filled
where it stands is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.bm25 import Statistics
from core.masks import EXACT, OVER_FETCH, SELECTOR
from core.query_syntax import Constraint
from shard.archive import Archived
from shard.fetched import Fetched
from shard.highlight import NO_MARKS, Marks
from shard.limits import Plan
from shard.ranked import Ranked
from shard.snapshot import Snapshot
from trireme.shard.v1 import shard_pb2
from trireme.v1 import document_pb2, filter_pb2

_STRATEGIES = {
    EXACT: filter_pb2.FILTER_STRATEGY_EXACT,
    SELECTOR: filter_pb2.FILTER_STRATEGY_SELECTOR,
    OVER_FETCH: filter_pb2.FILTER_STRATEGY_OVER_FETCH,
}

LegAnswer = (
    shard_pb2.SearchLexicalResponse | shard_pb2.SearchDenseResponse | shard_pb2.SearchSparseResponse
)


def tell_leg(
    answer: LegAnswer, snapshot: Snapshot, found: Ranked, plan: Plan | None, *, seconds: float
) -> None:
    """What a leg found in which generation, how, and in how much time."""
    answer.ranking.ids.extend(found.ids)
    answer.ranking.scores.extend(found.scores)
    tell_generation(answer.generation, snapshot)
    answer.search_microseconds = round(seconds * 1e6)
    if plan is not None:
        answer.plan.strategies.extend(sorted(_STRATEGIES[each] for each in plan.strategies))
        answer.plan.matching_count = plan.matching
        answer.plan.document_count = plan.documents


def tell_generation(used: shard_pb2.GenerationUsed, snapshot: Snapshot | Archived) -> None:
    """Which generation answered."""
    manifest = snapshot.manifest
    used.epoch = manifest.epoch
    used.generation = manifest.generation
    used.sequence = manifest.sequence


def tell_statistics(message: shard_pb2.LexicalStatistics, found: Statistics) -> None:
    """What was counted."""
    message.document_count = found.documents
    message.total_length = found.length
    message.terms.extend(found.holding)
    message.document_frequencies.extend(found.holding.values())


def tell_document(
    message: shard_pb2.FetchedDocument,
    fetched: Fetched,
    with_tokens: bool,
    marks: Marks = NO_MARKS,
    unmet: Sequence[str] = (),
    violated: Constraint | None = None,
) -> None:
    """One document, with the token ids of its passage if asked for."""
    message.id = fetched.id
    message.document = fetched.serialised
    if fetched.passage is not None:
        message.start_byte = fetched.passage.start_byte
        message.end_byte = fetched.passage.end_byte
        if with_tokens:
            message.token_ids.extend(fetched.passage.token_ids.tolist())
    if marks is not NO_MARKS:
        message.highlights.extend(marks.text)
        message.title_highlights.extend(marks.title)
    message.unmet.extend(unmet)
    if violated is not None:
        message.violated.required.extend(violated.required)
        message.violated.excluded.extend(violated.excluded)


def tell_attribute(message: document_pb2.AttributeValue, serialised: bytes, name: str) -> None:
    """One attribute of a document, without a kind if it is not there."""
    attributes = document_pb2.Document.FromString(serialised).attributes
    if name in attributes:
        message.CopyFrom(attributes[name])
