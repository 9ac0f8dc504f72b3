"""The write path over every database: what it publishes is the fold of the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, func, select

from core.documents import Document
from core.errors import Fenced
from indexer import catalogue, heads
from indexer.ownership import Ownership
from indexer.tables import change, document, request, shard_head, suspect
from tests.fakes.write_path import NAME, FakeEncoders, WritePath, contents_of

SHARDS = 2


@pytest.fixture
async def path(tmp_path: Path, database_url: str) -> AsyncIterator[WritePath]:
    path = await WritePath.create(
        tmp_path, shard_count=SHARDS, database_url=database_url, batch_documents=4
    )
    yield path
    await path.close()


def some(count: int, text: str = "heart and lung") -> list[Document]:
    return [Document(id=f"doc-{number:02}", title="on", text=text) for number in range(count)]


async def index_all(path: WritePath) -> None:
    for shard in range(SHARDS):
        await path.index(shard)


def rows_of(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


async def published(path: WritePath) -> dict[str, int]:
    found = [contents_of(path.files(shard), path.current(shard)) for shard in range(SHARDS)]
    return {id: version for part in found for id, version in part.items()}


async def test_what_is_published_is_the_fold_of_the_feed(path: WritePath) -> None:
    await path.upsert(*some(20))
    await index_all(path)
    await path.upsert(*some(6, "kidney"))
    await path.delete("doc-03", "doc-17")
    await index_all(path)

    expected = {each.id: 1 + (each.id < "doc-06") for each in some(20)}
    del expected["doc-03"], expected["doc-17"]
    assert await published(path) == expected


async def test_only_the_newest_owner_publishes(path: WritePath) -> None:
    await path.upsert(*some(2))
    await index_all(path)
    first = await Ownership.take(path.shared.database, path.record, 0, owner="first", above_epoch=0)
    second = await Ownership.take(
        path.shared.database, path.record, 0, owner="second", above_epoch=0
    )
    manifest = path.current()

    with pytest.raises(Fenced):
        await first.publish(manifest)
    await second.publish(manifest)

    assert second.epoch == first.epoch + 1
    assert (await path.head()).generation == manifest.generation + 1


async def test_owners_that_take_over_at_once_get_epochs_of_their_own(path: WritePath) -> None:
    owners = await asyncio.gather(
        *(
            Ownership.take(path.shared.database, path.record, 0, owner=str(n), above_epoch=0)
            for n in range(8)
        )
    )

    assert len({owner.epoch for owner in owners}) == 8


async def test_writers_and_owners_work_on_a_shard_at_the_same_time(path: WritePath) -> None:
    async with path.running(path.ingest(0).run()), path.running(path.ingest(1).run()):
        batches = (path.upsert(*some(12, f"heart {number}")) for number in range(6))
        await asyncio.gather(*batches)
    await index_all(path)

    assert await published(path) == dict.fromkeys((each.id for each in some(12)), 6)
    for shard in range(SHARDS):
        head = await path.head(shard)
        assert head.covers_sequence == head.head
        assert head.covers_chain == head.chain


async def test_poison_is_counted_and_set_aside(path: WritePath) -> None:
    assert isinstance(path.shared.encoders, FakeEncoders)
    path.shared.encoders.poison = "poison"
    await path.upsert(Document(id="bad", text="poison"), *some(3))
    await index_all(path)

    uid = path.record.uid
    chosen = select(suspect.c.id, suspect.c.quarantined)
    rows = await path.shared.database.read(lambda c: [tuple(r) for r in c.execute(chosen)])
    progress = await path.shared.database.read(lambda c: heads.progress(c, [uid]))
    assert rows == [("bad", True)]
    assert sum(each.quarantined for each in progress) == 1
    assert sum(each.documents for each in progress) == 1 + 3
    assert "bad" in await published(path)


async def test_a_removed_collection_leaves_no_rows(path: WritePath) -> None:
    await path.upsert(*some(20))
    database, uid = path.shared.database, path.record.uid
    await database.write(lambda c: catalogue.remove(c, NAME))
    while not await database.write(lambda c: catalogue.purge(c, uid)):
        pass

    for table in (change, document, request, shard_head, suspect):
        assert await database.read(partial(rows_of, table=table)) == 0
    assert await database.read(catalogue.unfinished_removals) == []
