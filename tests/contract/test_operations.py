"""What operators may ask of an indexer, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.rpc import open_channel
from indexer.server import Indexer
from tests.contract.test_indexer import SHARDS, Client, Document, config_of, refused
from tests.fakes.triton import FakeTriton
from trireme.v1 import (
    alias_pb2,
    alias_pb2_grpc,
    collection_pb2,
    document_pb2,
    operations_pb2,
    operations_pb2_grpc,
)

DONE = operations_pb2.TASK_STATE_DONE
WAITING = operations_pb2.TASK_STATE_WAITING


class Operator(Client):
    """A client who looks after indexes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.operations: Any = operations_pb2_grpc.OperationsServiceStub(channel)

    async def rebuild(self, name: str) -> list[operations_pb2.IndexTask]:
        request = operations_pb2.RebuildIndexRequest(collection=name)
        return list((await self.operations.RebuildIndex(request)).tasks)

    async def compact(self, name: str) -> list[operations_pb2.IndexTask]:
        request = operations_pb2.CompactIndexRequest(collection=name)
        return list((await self.operations.CompactIndex(request)).tasks)

    async def tasks(self, name: str) -> list[operations_pb2.IndexTask]:
        request = operations_pb2.ListIndexTasksRequest(collection=name)
        return list((await self.operations.ListIndexTasks(request)).tasks)

    async def until_done(self, name: str) -> list[operations_pb2.IndexTask]:
        while True:
            found = await self.tasks(name)
            if all(task.state == DONE for task in found):
                return found

    async def quarantined(self, name: str, size: int = 0) -> list[Any]:
        found: list[Any] = []
        request = operations_pb2.ListQuarantinedDocumentsRequest(collection=name, page_size=size)
        while True:
            page = await self.operations.ListQuarantinedDocuments(request)
            found += page.documents
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def retry(self, name: str, *ids: str) -> list[str]:
        request = operations_pb2.RetryQuarantinedDocumentsRequest(collection=name, ids=ids)
        reply = await self.operations.RetryQuarantinedDocuments(request)
        assert reply.retried_count == len(reply.ids)
        return list(reply.ids)


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    async with FakeTriton(poison="poison") as fake:
        yield fake


@pytest.fixture
async def papers(tmp_path: Path, triton: FakeTriton) -> AsyncIterator[Operator]:
    """An indexer with five documents in the collection `papers`."""
    indexer = await Indexer.create(config_of(tmp_path, triton))
    await indexer.start()
    async with open_channel(indexer.address) as channel:
        operator = Operator(channel)
        await operator.create("papers")
        await operator.upsert(*(Document(id=f"good-{n}", text=f"heart {n}") for n in range(5)))
        await operator.until_indexed("papers")
        yield operator
    await indexer.stop(0)


@pytest.fixture
async def poisoned(papers: Operator) -> Operator:
    """With four more that cannot be embedded."""
    await papers.upsert(*(Document(id=f"bad-{n}", text=f"poison {n}") for n in range(4)))
    await papers.until_indexed("papers")
    return papers


async def test_documents_that_were_set_aside_are_listed_with_their_reason(
    poisoned: Operator,
) -> None:
    found = await poisoned.quarantined("papers")

    assert {each.id for each in found} == {f"bad-{n}" for n in range(4)}
    assert [(each.shard, each.sequence) for each in found] == sorted(
        (each.shard, each.sequence) for each in found
    )
    assert await poisoned.quarantined("papers", size=1) == found
    for each in found:
        assert "poisonous" in each.reason
        assert each.version == 1
        assert each.attempts > 1
        assert each.first_time.ToMicroseconds() <= each.last_time.ToMicroseconds()


async def test_what_is_tried_again_is_cleared_once_it_goes_through(
    poisoned: Operator, triton: FakeTriton
) -> None:
    triton.set_poison("")

    assert await poisoned.retry("papers", "bad-1", "good-1", "absent") == ["bad-1"]
    await poisoned.until_indexed("papers")
    left = {each.id for each in await poisoned.quarantined("papers")}

    assert left == {"bad-0", "bad-2", "bad-3"}
    assert await poisoned.retry("papers") == sorted(left)
    found = await poisoned.until_indexed("papers")
    assert await poisoned.quarantined("papers") == []
    assert sum(shard.quarantined_count for shard in found.shards) == 0
    assert found.document_count == 4 + 5
    assert await poisoned.retry("papers") == []


async def test_what_fails_again_is_set_aside_again(poisoned: Operator) -> None:
    await poisoned.retry("papers", "bad-2")
    await poisoned.until_indexed("papers")

    found = {each.id: each.version for each in await poisoned.quarantined("papers")}

    assert found == {"bad-0": 1, "bad-1": 1, "bad-2": 2, "bad-3": 1}


async def test_what_was_replaced_or_removed_is_not_set_aside_any_more(poisoned: Operator) -> None:
    await poisoned.upsert(Document(id="bad-0", text="heart"))
    gone = document_pb2.DeleteDocumentsRequest(collection="papers", ids=["bad-1"])
    await poisoned.documents.DeleteDocuments(gone)
    await poisoned.until_indexed("papers")

    assert {each.id for each in await poisoned.quarantined("papers")} == {"bad-2", "bad-3"}
    assert await poisoned.retry("papers", "bad-0", "bad-1") == []


async def test_an_index_is_rebuilt_shard_by_shard(papers: Operator, triton: FakeTriton) -> None:
    before = await papers.get("papers")
    embedded = triton.rows["bi_encoder"]

    asked = await papers.rebuild("papers")
    done = await papers.until_done("papers")
    after = await papers.get("papers")

    assert [task.shard for task in asked] == list(range(SHARDS))
    assert [(task.kind, task.shard) for task in done] == [
        (operations_pb2.TASK_KIND_REBUILD, shard) for shard in range(SHARDS)
    ]
    assert all(task.end_time.ToMicroseconds() > 0 for task in done)
    assert triton.rows["bi_encoder"] - embedded >= 5
    for old, new in zip(before.shards, after.shards, strict=True):
        assert new.generation > old.generation
        assert new.indexed_sequence == old.indexed_sequence


async def test_what_is_set_aside_stays_so_in_a_rebuilt_index(poisoned: Operator) -> None:
    before = await poisoned.quarantined("papers")

    await poisoned.rebuild("papers")
    await poisoned.until_done("papers")

    assert await poisoned.quarantined("papers") == before


async def test_both_kinds_of_tasks_are_remembered(papers: Operator) -> None:
    await papers.compact("papers")
    await papers.rebuild("papers")

    done = await papers.until_done("papers")

    kinds = [operations_pb2.TASK_KIND_COMPACT] * SHARDS
    kinds += [operations_pb2.TASK_KIND_REBUILD] * SHARDS
    assert [task.kind for task in done] == kinds


async def test_asking_twice_changes_nothing(papers: Operator, triton: FakeTriton) -> None:
    await triton.stop()

    first = await papers.rebuild("papers")
    second = await papers.rebuild("papers")

    assert [t.create_time for t in first] == [t.create_time for t in second]
    assert second[1].state == WAITING
    await triton.start()
    await papers.until_done("papers")


async def test_a_rebuild_goes_on_after_a_restart(tmp_path: Path, triton: FakeTriton) -> None:
    async def run(during: Any) -> None:
        indexer = await Indexer.create(config_of(tmp_path, triton))
        await indexer.start()
        async with open_channel(indexer.address) as channel:
            await during(Operator(channel))
        await indexer.stop(0)

    async def ask(operator: Operator) -> None:
        await operator.create("papers")
        await operator.upsert(*(Document(id=f"d{n}", text="heart") for n in range(9)))
        await operator.until_indexed("papers")
        await triton.stop()
        await operator.rebuild("papers")

    async def see(operator: Operator) -> None:
        assert [task.state for task in await operator.tasks("papers")] != [DONE] * SHARDS
        await triton.start()
        assert len(await operator.until_done("papers")) == SHARDS

    await run(ask)
    await run(see)


async def test_aliases_are_good_for_operations_too(papers: Operator) -> None:
    stub: Any = alias_pb2_grpc.AliasServiceStub(papers.channel)
    alias = alias_pb2.Alias(name="best", collection="papers")
    await stub.CreateAlias(alias_pb2.CreateAliasRequest(alias=alias))

    await papers.compact("best")

    assert await papers.until_done("best") == await papers.tasks("papers")
    assert await papers.quarantined("best") == []


async def test_a_wrong_request_names_its_field(papers: Operator) -> None:
    wrong = operations_pb2.RetryQuarantinedDocumentsRequest(collection="papers", ids=[""])
    many = operations_pb2.RetryQuarantinedDocumentsRequest(
        collection="papers", ids=[f"{n}" for n in range(257)]
    )
    token = operations_pb2.ListQuarantinedDocumentsRequest(collection="papers", page_token="x")
    refusals = [
        (papers.rebuild(""), "FIELD_REQUIRED", "collection"),
        (papers.compact("absent"), "COLLECTION_NOT_FOUND", "collection"),
        (papers.tasks("absent"), "COLLECTION_NOT_FOUND", "collection"),
        (papers.operations.RetryQuarantinedDocuments(wrong), "FIELD_REQUIRED", "ids[0]"),
        (papers.operations.RetryQuarantinedDocuments(many), "OUT_OF_RANGE", "ids"),
        (papers.operations.ListQuarantinedDocuments(token), "BAD_PAGE_TOKEN", "page_token"),
    ]
    for call, reason, field in refusals:
        assert (await refused(call))[1:] == (reason, field)


async def test_a_deleted_collection_takes_its_tasks_along(papers: Operator) -> None:
    await papers.rebuild("papers")

    gone = collection_pb2.DeleteCollectionRequest(name="papers")
    await papers.collections.DeleteCollection(gone)
    await papers.create("papers")

    assert await papers.tasks("papers") == []
