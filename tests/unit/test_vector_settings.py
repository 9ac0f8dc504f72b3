"""What callers say about vector indexes, and what they are told of them."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import InvalidInput
from core.manifest import IndexEntry, SegmentEntry
from core.vector_wire import segments_to_proto, settings_from_proto, settings_to_proto
from core.vectors.kinds import FLAT, HNSW, IVF_PQ, KINDS
from core.vectors.settings import AUTO, DEFAULT, VectorSettings
from indexer.vector_state import VectorState
from trireme.v1.vector_index_pb2 import (
    VECTOR_INDEX_KIND_FLAT,
    VECTOR_INDEX_KIND_IVF_PQ,
    VectorIndex,
    VectorSegments,
)


def test_what_is_not_said_is_the_default() -> None:
    assert settings_from_proto(VectorIndex(), "") == DEFAULT
    assert VectorSettings.from_json("") == DEFAULT


@pytest.mark.parametrize("kind", [AUTO, *KINDS])
def test_settings_stay_what_they_are_on_the_wire_and_in_the_store(kind: str) -> None:
    settings = VectorSettings(kind, 0.95, 10**9, 2_000)

    assert settings_from_proto(settings_to_proto(settings), "") == settings
    assert VectorSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 99),
        ("target_recall", 0.0),
        ("target_recall", 1.01),
        ("memory_budget_bytes", -1),
        ("seal_rows", 999),
        ("seal_rows", -5),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        settings_from_proto(VectorIndex(**{field: value}), "collection.vector_index.")

    assert refusal.value.reason == "OUT_OF_RANGE"
    assert refusal.value.field == f"collection.vector_index.{field}"


def test_a_shard_tells_its_kinds_and_its_lowest_recall() -> None:
    segments = [
        SegmentEntry("a", 1, 1, ()),
        SegmentEntry("b", 1, 1, (), index=IndexEntry(IVF_PQ, 8, 0.99, 200)),
        SegmentEntry("c", 1, 1, (), index=IndexEntry(IVF_PQ, 8, 0.98, 200)),
    ]

    state = VectorState.of(segments)

    assert (state.kinds, state.recall) == ({FLAT: 1, IVF_PQ: 2}, 0.98)
    assert segments_to_proto({**state.kinds, HNSW: 0}) == [
        VectorSegments(kind=VECTOR_INDEX_KIND_FLAT, count=1),
        VectorSegments(kind=VECTOR_INDEX_KIND_IVF_PQ, count=2),
    ]
    assert VectorState.of(segments[:1]).recall == 1.0
