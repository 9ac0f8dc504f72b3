"""What the document store promises, whichever database holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, update

from core.deadline import Deadline
from core.documents import shard_of
from core.errors import BadEnvironment, NewerFormat, NotFound, OutOfTime, Overloaded
from core.ranking_wish import OPEN, FusionWish, RankingWish
from indexer import catalogue, requests
from indexer.catalogue import CollectionRecord
from indexer.changes import DELETE, Diverged
from indexer.database import Database
from indexer.store import DocumentStore
from indexer.tables import change, meta, request
from tests.fakes.document_store import RECORD, SHARDS, Store, document

FIRST_FORMAT = """
    CREATE TABLE meta ("key" VARCHAR(64) PRIMARY KEY, value TEXT NOT NULL);
    INSERT INTO meta VALUES ('format', '1');
    CREATE TABLE collection (
        uid VARCHAR(32) PRIMARY KEY, name TEXT NOT NULL UNIQUE, shard_count INTEGER NOT NULL,
        encoder_model TEXT NOT NULL, encoder_version TEXT NOT NULL,
        encoder_fingerprint TEXT NOT NULL, dimension INTEGER NOT NULL, similarity TEXT NOT NULL,
        max_tokens INTEGER NOT NULL, overlap_tokens INTEGER NOT NULL, create_micros BIGINT NOT NULL
    );
    INSERT INTO collection
    VALUES ('uid-old', 'old', 1, 'bi_encoder', '1', 'f', 384, 'cosine', 254, 32, 0);
"""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    store = await Store.create(database_url)
    yield store
    await store.close()


async def test_a_document_comes_back_as_it_was_stored(store: Store) -> None:
    moment = datetime(2026, 1, 31, 12, 30, 0, 250, tzinfo=UTC)
    given = document("a", "héllo", year=2026.0, tags=("x", "y"), open=True, at=moment, who="me")

    receipt = await store.upsert(given)

    found = await store.documents.get("papers", "a")
    assert found is not None
    assert (found.title, found.text) == (given.title, given.text)
    assert found.attributes == given.attributes
    assert receipt.versions == (found.version,) == (1,)
    assert found.update_time is not None


async def test_versions_count_the_writes_of_an_id_deletions_too(store: Store) -> None:
    assert (await store.upsert(document("a"))).versions == (1,)
    assert (await store.upsert(document("b"), document("a"))).versions == (1, 2)
    await store.delete("a")

    assert (await store.upsert(document("a"))).versions == (4,)


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(store: Store) -> None:
    await store.upsert(document("a"))
    before = await store.feeds()

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT INTO document"):
            raise RuntimeError("boom")

    event.listen(store.database.engines.writing, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="boom"):
        await store.upsert(*(document(f"new-{n}") for n in range(10)))
    event.remove(store.database.engines.writing, "before_cursor_execute", fail)

    assert await store.feeds() == before
    assert await store.documents.get("papers", "new-0") is None
    assert (await store.upsert(document("new-0"))).versions == (1,)


async def test_feeds_are_gapless_and_chained_under_concurrent_writers(store: Store) -> None:
    async def write(writer: int) -> None:
        for number in range(10):
            ids = [f"{writer}-{number}-{n}" for n in range(4)] + [f"shared-{number}"]
            await store.upsert(*(document(id) for id in ids))
            await store.delete(ids[0])

    await asyncio.gather(*(write(writer) for writer in range(8)))

    for shard in range(SHARDS):
        changes = await store.feed(shard)  # raises if there is a gap or the chain is broken
        assert [each.sequence for each in changes] == list(range(1, len(changes) + 1))
        assert all(shard_of(each.id, SHARDS) == shard for each in changes)
    assert len(await store.feeds()) == 8 * 10 * (4 + 1 + 1)
    assert sorted(each.version for each in await store.feeds() if each.id == "shared-3") == [
        1, 2, 3, 4, 5, 6, 7, 8,
    ]  # fmt: skip


async def test_a_position_is_where_the_batch_stands_in_each_feed(store: Store) -> None:
    receipt = await store.upsert(*(document(f"doc-{n}") for n in range(20)))

    for shard in range(SHARDS):
        assert receipt.position.sequences[shard] == len(await store.feed(shard))


async def test_the_same_request_id_is_applied_once_and_answered_alike(store: Store) -> None:
    first = await store.upsert(document("a"), request_id="r1")
    await store.upsert(document("a", "newer"))

    again = await store.upsert(document("a"), request_id="r1")

    assert again == first
    found = await store.documents.get("papers", "a")
    assert found is not None
    assert (found.version, found.text) == (2, "newer")


async def test_the_same_request_id_at_the_same_time_is_applied_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.upsert(document("a"), request_id="r") for _ in range(9)))

    assert len(set(map(str, answers))) == 1
    assert len(await store.feeds()) == 1


async def test_request_ids_are_forgotten_after_a_day(store: Store) -> None:
    await store.upsert(document("a"), request_id="r1")
    day_ago = -requests.KEEP_MICROS - 1
    aged = update(request).values(create_micros=request.c.create_micros + day_ago)
    await store.database.write(lambda connection: connection.execute(aged) and None)

    assert (await store.upsert(document("a"), request_id="r1")).versions == (2,)


async def test_a_deletion_is_a_change_and_absent_ids_are_counted_out(store: Store) -> None:
    await store.upsert(document("a"), document("b"))

    receipt = await store.delete("a", "never-there")

    assert receipt.count == 1
    assert await store.documents.get("papers", "a") is None
    assert [each.op for each in await store.feeds() if each.id == "a"][-1] == DELETE
    nothing = await store.delete("a", "never-there")
    assert (nothing.count, dict(nothing.position.sequences)) == (0, {})


async def test_pages_go_through_all_ids_in_byte_order(store: Store) -> None:
    ids = ["b", "a", "Z", "é", "z", "aa", "\U0001f600", "\uffee"]
    await store.upsert(*(document(id) for id in ids))
    await store.delete("aa")

    seen: list[str] = []
    more = True
    while more:
        page, more = await store.documents.page("papers", seen[-1] if seen else "", 3)
        seen += [each.id for each in page]

    assert seen == sorted(set(ids) - {"aa"}, key=str.encode)


async def test_a_page_of_long_documents_is_cut_short(store: Store) -> None:
    for number in range(6):
        await store.upsert(document(f"doc-{number}", "x" * 1_000_000))

    page, more = await store.documents.page("papers", "", 100)

    assert len(page) == 4
    assert more


async def test_an_unknown_collection_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.documents.get("nope", "a")

    assert (caught.value.reason, caught.value.field) == ("COLLECTION_NOT_FOUND", "collection")


async def test_a_batch_whose_deadline_has_passed_is_not_stored(store: Store) -> None:
    with pytest.raises(OutOfTime):
        await store.documents.upsert("papers", [document("a")], deadline=Deadline.after(-1))

    assert await store.feeds() == []


async def test_one_refused_batch_does_not_touch_those_committed_with_it(store: Store) -> None:
    late = store.documents.upsert("papers", [document("late")], deadline=Deadline.after(-1))
    results = await asyncio.gather(
        store.upsert(document("a")), late, store.upsert(document("b")), return_exceptions=True
    )

    assert isinstance(results[1], OutOfTime)
    assert {each.id for each in await store.feeds()} == {"a", "b"}


async def test_more_batches_than_may_wait_are_refused_at_once(store: Store) -> None:
    narrow = DocumentStore(store.database, max_waiting=2)
    batches = [
        narrow.upsert("papers", [document(f"doc-{n}")], deadline=Deadline.after(60))
        for n in range(5)
    ]

    results = await asyncio.gather(*batches, return_exceptions=True)

    assert [type(result) for result in results].count(Overloaded) == 5 - 2


async def test_a_feed_whose_history_was_rewritten_is_noticed(store: Store) -> None:
    await store.upsert(*(document(f"doc-{n}") for n in range(40)))
    changes = await store.feed(0)
    last = changes[-1]

    with pytest.raises(Diverged):
        await store.feed(0, after=last.sequence, chain="0" * 64)
    with pytest.raises(Diverged):
        await store.feed(0, after=last.sequence + 1, chain=last.chain)

    forged = update(change).where(change.c.sequence == 1, change.c.shard == 0).values(text="forged")
    await store.database.write(lambda connection: connection.execute(forged) and None)
    with pytest.raises(Diverged):
        await store.feed(0)


async def test_a_store_of_a_newer_format_is_refused(database_url: str) -> None:
    database = await Database.create(database_url)
    newer = update(meta).values(value="99")
    await database.write(lambda connection: connection.execute(newer) and None)
    await database.close()

    with pytest.raises(NewerFormat):
        await Database.create(database_url)


async def test_a_store_of_the_first_format_is_brought_up_to_this_one(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as old:
        for statement in filter(str.strip, FIRST_FORMAT.split(";")):
            old.exec_driver_sql(statement)
    engine.dispose()

    database = await Database.create(database_url)
    (record,) = await database.read(catalogue.every)
    await database.write(lambda connection: catalogue.add(connection, RECORD))
    await database.close()
    database = await Database.create(database_url)
    names = [each.name for each in await database.read(catalogue.every)]
    await database.close()

    assert (record.name, record.dimension, record.sparse_model) == ("old", 384, "")
    assert record.search_defaults == OPEN
    assert names == ["old", RECORD.name]


async def test_search_defaults_are_changed_in_one_step_and_stay(store: Store) -> None:
    def more(weight: float) -> Callable[[RankingWish], RankingWish]:
        def change(present: RankingWish) -> RankingWish:
            before = present.fusion.dense_weight or 0
            return RankingWish(FusionWish(dense_weight=before + weight), present.rerank, 200)

        return change

    def raise_by(weight: float) -> Callable[[Connection], CollectionRecord]:
        change = more(weight)
        return lambda connection: catalogue.alter(
            connection,
            "papers",
            lambda record: replace(record, search_defaults=change(record.search_defaults)),
        )

    await asyncio.gather(*(store.database.write(raise_by(1 / 8)) for _ in range(16)))

    (record,) = await store.database.read(catalogue.every)
    assert record.search_defaults == RankingWish(FusionWish(dense_weight=16 / 8), window=200)
    assert record == replace(RECORD, search_defaults=record.search_defaults)


async def test_search_defaults_of_no_collection_are_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.database.write(
            lambda connection: catalogue.alter(connection, "absent", lambda record: record)
        )


async def test_readers_cannot_write(store: Store) -> None:
    write = update(meta).values(value="1")

    with pytest.raises(BadEnvironment, match=r"read-?only"):
        await store.database.read(lambda connection: connection.execute(write))


async def test_what_was_acknowledged_is_there_after_reopening(database_url: str) -> None:
    first = await Database.create(database_url)
    await first.write(lambda connection: catalogue.add(connection, RECORD))
    await Store(first).upsert(document("a"))
    await first.close()

    second = await Database.create(database_url)

    assert await Store(second).documents.get("papers", "a") is not None
    await second.close()
