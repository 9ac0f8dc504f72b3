"""A migration as it stands in the document store: what was asked for, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from indexer import catalogue
from indexer.catalogue import CollectionRecord
from indexer.migration.gate import Comparison, Gate
from indexer.migration.states import State

INDEX_FIELDS = (
    "encoder_model",
    "encoder_version",
    "encoder_fingerprint",
    "dimension",
    "similarity",
    "max_tokens",
    "overlap_tokens",
    "sparse_model",
    "sparse_version",
    "sparse_fingerprint",
    "sparse_dimension",
    "lexical",
    "index_uid",
    "index_number",
)
"""The columns of a collection that say what its index is; all others belong to the collection."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShadowQuery:
    """A query for both indexes, with the relevance of documents by id where somebody judged."""

    text: str
    judgments: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for beside the target itself."""

    gate: Gate = field(default_factory=Gate)
    auto_switch: bool = False
    tokens_per_second: int = 0
    live_queries: int = 0


@dataclass(frozen=True, slots=True)
class Migration:
    """One row. `live` is the collection as its row says now; times in microseconds since 1970.

    `released` says that nothing is left of the index that lost.
    """

    live: CollectionRecord
    number: int
    state: State
    source: Values
    target: Values
    plan: Plan
    queries: Sequence[ShadowQuery]
    comparison: Comparison | None
    reason: str
    create_micros: int
    switch_micros: int
    end_micros: int
    released: bool

    @property
    def source_record(self) -> CollectionRecord:
        """The collection with its source for an index."""
        return with_index(self.live, self.source)

    @property
    def target_record(self) -> CollectionRecord:
        """The collection with its target for an index."""
        return with_index(self.live, self.target)

    @property
    def idle_record(self) -> CollectionRecord:
        """The collection with the index that does not answer."""
        return self.source_record if self.state.target_answers else self.target_record

    @property
    def is_compared(self) -> bool:
        """Whether there is anything to compare by."""
        return bool(self.queries or self.plan.live_queries)


def index_values(record: CollectionRecord) -> dict[str, Any]:
    """What a record says of its index, as columns."""
    values = catalogue.values_of(record)
    return {name: values[name] for name in INDEX_FIELDS}


def with_index(record: CollectionRecord, index: Values) -> CollectionRecord:
    """The collection with another index."""
    return catalogue.record_of({**catalogue.values_of(record), **index})


def migration_of(row: Row[Any], record: CollectionRecord) -> Migration:
    """The migration that a row of the table stands for, of the collection as it is now."""
    plan = json.loads(row.plan)
    return Migration(
        live=record,
        number=row.number,
        state=State(row.state),
        source=json.loads(row.source),
        target=json.loads(row.target),
        plan=Plan(**{**plan, "gate": Gate(**plan["gate"])}),
        queries=[ShadowQuery(**each) for each in json.loads(row.queries)],
        comparison=Comparison(**json.loads(row.report)) if row.report else None,
        reason=row.reason,
        create_micros=row.create_micros,
        switch_micros=row.switch_micros,
        end_micros=row.end_micros,
        released=row.released,
    )
