"""Between the messages about vector indexes and the settings that they say."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import InvalidInput
from core.ranges import within
from core.vectors import kinds
from core.vectors.settings import (
    AUTO,
    LEAST_SEAL_ROWS,
    MOST_SEAL_ROWS,
    SEAL_ROWS,
    TARGET_RECALL,
    VectorSettings,
)
from trireme.v1 import vector_index_pb2

MOST_BYTES = 2**62
LEAST_RECALL = 0.01

_TO_PROTO = {
    AUTO: vector_index_pb2.VECTOR_INDEX_KIND_AUTO,
    kinds.FLAT: vector_index_pb2.VECTOR_INDEX_KIND_FLAT,
    kinds.IVF_FLAT: vector_index_pb2.VECTOR_INDEX_KIND_IVF_FLAT,
    kinds.IVF_SQ8: vector_index_pb2.VECTOR_INDEX_KIND_IVF_SQ8,
    kinds.IVF_PQ: vector_index_pb2.VECTOR_INDEX_KIND_IVF_PQ,
    kinds.IVF_RABITQ: vector_index_pb2.VECTOR_INDEX_KIND_IVF_RABITQ,
    kinds.HNSW: vector_index_pb2.VECTOR_INDEX_KIND_HNSW,
}
_FROM_PROTO = {number: kind for kind, number in _TO_PROTO.items()}


def settings_from_proto(message: vector_index_pb2.VectorIndex, path: str) -> VectorSettings:
    """What a message says, defaults filled in; raises InvalidInput naming the field."""
    kind = message.kind or vector_index_pb2.VECTOR_INDEX_KIND_AUTO
    if kind not in _FROM_PROTO:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"{message.kind} is not a VectorIndexKind",
            field=f"{path}kind",
            remedy=f"use {', '.join(map(vector_index_pb2.VectorIndexKind.Name, _FROM_PROTO))}",
        )
    recall = message.target_recall if message.HasField("target_recall") else TARGET_RECALL
    seal_rows = message.seal_rows or SEAL_ROWS
    return VectorSettings(
        kind=_FROM_PROTO[kind],
        target_recall=within(recall, LEAST_RECALL, 1.0, f"{path}target_recall"),
        memory_budget_bytes=within(
            message.memory_budget_bytes, 0, MOST_BYTES, f"{path}memory_budget_bytes"
        ),
        seal_rows=within(seal_rows, LEAST_SEAL_ROWS, MOST_SEAL_ROWS, f"{path}seal_rows"),
    )


def settings_to_proto(settings: VectorSettings) -> vector_index_pb2.VectorIndex:
    """The message that says the same."""
    return vector_index_pb2.VectorIndex(
        kind=_TO_PROTO[settings.kind],
        target_recall=settings.target_recall,
        memory_budget_bytes=settings.memory_budget_bytes,
        seal_rows=settings.seal_rows,
    )


def segments_to_proto(counts: Mapping[str, int]) -> list[vector_index_pb2.VectorSegments]:
    """How many segments have each kind."""
    return [
        vector_index_pb2.VectorSegments(kind=_TO_PROTO[kind], count=count)
        for kind, count in sorted(counts.items())
        if count
    ]
