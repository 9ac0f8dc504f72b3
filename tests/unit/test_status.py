"""`trireme status` reads well: every name whole, a row for each collection, nothing cut off."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from deploy.cli.status_page import collection_page, overview
from trireme.v1 import collection_pb2, operations_pb2, vector_index_pb2

Collection = collection_pb2.Collection
Shard = collection_pb2.ShardProgress


def lines(*shown: RenderableType, width: int = 80) -> list[str]:
    """What a terminal of that width shows."""
    file = io.StringIO()
    Console(file=file, width=width).print(*shown, sep="\n")
    return [line.rstrip() for line in file.getvalue().splitlines()]


def collection(name: str, **fields: object) -> Collection:
    shards = [
        Shard(
            shard=n,
            generation=12,
            head_sequence=1_500,
            indexed_sequence=1_500,
            vector_recall=1.0,
            vector_segments=[
                vector_index_pb2.VectorSegments(
                    kind=vector_index_pb2.VECTOR_INDEX_KIND_FLAT, count=2
                )
            ],
        )
        for n in range(2)
    ]
    made = Collection(
        name=name,
        document_count=3_000,
        encoder=collection_pb2.ModelVersion(model="bi_encoder", version="1"),
        dimensions=384,
        similarity="cosine",
        shards=shards,
    )
    made.MergeFrom(Collection(**fields))  # type: ignore[arg-type]
    return made


def test_a_hundred_collections_are_a_hundred_rows() -> None:
    collections = [collection(f"customer-{n:03}-documents") for n in range(100)]

    shown = lines(overview(collections))

    assert len(shown) == 1 + 100
    assert all(len(line) <= 80 for line in shown)
    assert [line.split()[0] for line in shown[1:]] == [each.name for each in collections]
    assert "4 flat" in shown[1]


@pytest.mark.parametrize("length", [1, 30, 63])
def test_a_name_is_never_cut(length: int) -> None:
    name = "n" * length

    shown = lines(overview([collection(name, aliases=["best", "newest"])]))

    assert any(name in line for line in shown)
    assert all(len(line) <= 80 for line in shown)


def test_what_is_out_of_the_ordinary_is_said() -> None:
    stalled = collection("papers", aliases=["best"])
    stalled.shards[1].stalled_reason = "Triton does not answer"
    stalled.shards[1].lag_changes = 1_200
    stalled.shards[1].lag_seconds = 3.25
    stalled.shards[0].quarantined_count = 7
    stalled.other_index.name = "papers~2"
    stalled.other_index.encoder.model = "bi_encoder"
    stalled.other_index.encoder.version = "2"

    text = " ".join(" ".join(lines(overview([stalled]), width=200)).split())

    assert "papers 3,000 1,200 3.2 s 7" in text
    assert "shard 1 stands still: Triton does not answer" in text
    assert "migration: papers~2 (bi_encoder:2) beside" in text
    assert "also best" in text


def test_a_collection_is_shown_shard_by_shard_with_what_is_done_to_it() -> None:
    tasks = [
        operations_pb2.IndexTask(
            kind=operations_pb2.TASK_KIND_REBUILD,
            shard=0,
            state=operations_pb2.TASK_STATE_RUNNING,
            done=30,
            total=120,
        ),
        operations_pb2.IndexTask(
            kind=operations_pb2.TASK_KIND_REBUILD,
            shard=1,
            state=operations_pb2.TASK_STATE_WAITING,
        ),
    ]

    shown = lines(*collection_page(collection("papers", aliases=["best"]), tasks))

    assert shown[0] == "papers  3,000 documents, bi_encoder:1 384d cosine"
    assert "  also best" in shown
    assert "  rebuild of shard 0 is under way, 25 %" in shown
    assert "  rebuild of shard 1 waits" in shown
    assert [line.split()[0] for line in shown[-2:]] == ["0", "1"]
    assert "1.000" in shown[-1]
    assert all(len(line) <= 80 for line in shown)
