"""Snapshots of a running family: made, listed, restored, removed, and never half there."""

from __future__ import annotations

import uuid

import grpc
import pytest

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2, ranking_pb2, snapshot_pb2, snapshot_pb2_grpc

DEFAULTS = ranking_pb2.SearchDefaults(rerank=ranking_pb2.Rerank(depth=7))


def stub(family: Family) -> snapshot_pb2_grpc.SnapshotServiceAsyncStub:
    return snapshot_pb2_grpc.SnapshotServiceStub(family.channel)


async def take(family: Family, name: str, collection: str) -> snapshot_pb2.Snapshot:
    wanted = snapshot_pb2.Snapshot(name=name, collection=collection)
    reply = await stub(family).CreateSnapshot(
        snapshot_pb2.CreateSnapshotRequest(snapshot=wanted), timeout=SECONDS
    )
    return reply.snapshot


async def restore(family: Family, name: str, collection: str = "") -> collection_pb2.Collection:
    reply = await stub(family).RestoreSnapshot(
        snapshot_pb2.RestoreSnapshotRequest(name=name, collection=collection), timeout=SECONDS
    )
    return reply.collection


async def documents(family: Family, collection: str) -> list[document_pb2.Document]:
    reply = await family.documents.ListDocuments(
        document_pb2.ListDocumentsRequest(collection=collection, page_size=1000), timeout=SECONDS
    )
    return list(reply.documents)


async def drop(family: Family, collection: str) -> None:
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=collection), timeout=SECONDS
    )


def fresh_name() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


async def test_a_restored_collection_has_every_document_as_it_was(
    family: Family, collection: str
) -> None:
    await family.put(collection, **{f"d{n}": f"galley {n} is rowed" for n in range(30)})
    await family.put(collection, d3="galley 3 is sailed")
    await family.delete(collection, "d4")
    before = await documents(family, collection)
    name, copy = fresh_name(), fresh_name()

    made = await take(family, name, collection)
    await family.put(collection, later="not in the snapshot")
    restored = await restore(family, name, copy)

    assert (made.document_count, restored.document_count) == (30 - 1, 30 - 1)
    assert await documents(family, copy) == before
    assert {each.id: each.version for each in before}["d3"] == 2
    position = await family.put(copy, d3="galley 3 is gone", d4="galley 4 is back")
    found = await family.search(copy, "galley", min_position=position, page_size=100)
    assert {hit.document.id for hit in found.hits} == {f"d{n}" for n in range(30)}
    assert {hit.document.version for hit in found.hits if hit.document.id == "d3"} == {3}
    await drop(family, copy)


async def test_a_deleted_collection_comes_back_under_its_name(family: Family) -> None:
    name, snapshot = fresh_name(), fresh_name()
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=name, search_defaults=DEFAULTS)
        ),
        timeout=SECONDS,
    )
    await family.put(name, a="a galley", b="a raft")
    await take(family, snapshot, name)
    await drop(family, name)

    restored = await restore(family, snapshot)

    assert (restored.name, restored.search_defaults.rerank.depth) == (name, 7)
    ends = [
        document_pb2.ShardPosition(shard=each.shard, sequence=each.head_sequence)
        for each in restored.shards
    ]
    found = await family.search(
        name, "galley raft", min_position=document_pb2.Position(shards=ends)
    )
    assert {hit.document.id for hit in found.hits} == {"a", "b"}
    await drop(family, name)


async def test_a_snapshot_is_listed_until_it_is_removed(family: Family, collection: str) -> None:
    name = fresh_name()
    await take(family, name, collection)

    async def names() -> list[str]:
        reply = await stub(family).ListSnapshots(
            snapshot_pb2.ListSnapshotsRequest(), timeout=SECONDS
        )
        return [each.name for each in reply.snapshots]

    assert name in await names()
    await stub(family).DeleteSnapshot(
        snapshot_pb2.DeleteSnapshotRequest(name=name), timeout=SECONDS
    )
    assert name not in await names()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await restore(family, name)
    assert reason_of(caught.value) == "SNAPSHOT_NOT_FOUND"


@pytest.mark.parametrize(
    ("name", "reason"), [("", "FIELD_REQUIRED"), ("../up", "MALFORMED"), ("UPPER", "MALFORMED")]
)
async def test_a_name_that_is_none_is_refused(
    family: Family, collection: str, name: str, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await take(family, name, collection)
    assert reason_of(caught.value) == reason


async def test_names_that_are_taken_are_refused(family: Family, collection: str) -> None:
    name = fresh_name()
    await take(family, name, collection)

    with pytest.raises(grpc.aio.AioRpcError) as twice:
        await take(family, name, collection)
    with pytest.raises(grpc.aio.AioRpcError) as over:
        await restore(family, name)

    assert reason_of(twice.value) == "SNAPSHOT_EXISTS"
    assert reason_of(over.value) == "COLLECTION_EXISTS"


async def test_a_damaged_snapshot_leaves_nothing_behind(family: Family, collection: str) -> None:
    await family.put(collection, a="a galley")
    name, copy = fresh_name(), fresh_name()
    await take(family, name, collection)
    index = family.cluster.config.state / "index"
    (file,) = (index / "snapshots" / name / "files").iterdir()
    good = file.read_bytes()
    file.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await restore(family, name, copy)
    with pytest.raises(grpc.aio.AioRpcError) as absent:
        await documents(family, copy)
    file.write_bytes(good)
    restored = await restore(family, name, copy)

    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert reason_of(absent.value) == "COLLECTION_NOT_FOUND"
    assert restored.document_count == 1
    await drop(family, copy)
