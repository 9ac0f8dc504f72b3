"""What holds of the document store in PostgreSQL alone: many writers, a server that goes away."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, select, text

from core.documents import Document
from core.errors import BadEnvironment, InvalidInput, NotFound, StoreUnavailable
from core.ranking_wish import RankingWish
from indexer import catalogue
from indexer.appending import Write, append
from indexer.catalogue import CollectionRecord
from indexer.changes import UPSERT, Change, contents
from indexer.database import Database
from indexer.tables import collection, shard_head
from tests.fakes.document_store import SHARDS, Store, document
from tests.servers.postgresql import PostgresServer

WRITERS = 6
ROUNDS = 12


@pytest.fixture(params=["wheel", "system"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    """Each version in turn."""
    found = request.getfixturevalue(f"{request.param}_postgresql")
    assert isinstance(found, PostgresServer)
    return found


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Sequence[Store]]:
    """One document store as three processes would have it open."""
    stores = [await Store.create(url), await Store.open(url), await Store.open(url)]
    yield stores
    for store in stores:
        await store.close()


async def tail(store: Store, shard: int, ended: asyncio.Event) -> list[Change]:
    """What a reader sees that asks for more again and again; every read checks the chain."""
    seen: list[Change] = []
    while True:
        last = ended.is_set()
        after, chain = (seen[-1].sequence, seen[-1].chain) if seen else (0, "")
        seen += await store.feed(shard, after=after, chain=chain)
        if last:
            return seen


async def write_and_fail(store: Store, chance: random.Random) -> Counter[str]:
    """Batches over shared ids, some of which are undone; how often each id was stored."""
    stored: Counter[str] = Counter()

    def undone(connection: Connection) -> None:
        record = catalogue.find(connection, "papers")
        append(connection, record, UPSERT, [Write("undone", ("title", "text", "{}"))])
        raise InvalidInput("MALFORMED", "undone in this test", field="")

    for _ in range(ROUNDS):
        ids = sorted(chance.sample([f"doc-{number}" for number in range(30)], 4))
        results = await asyncio.gather(
            store.upsert(*(document(id) for id in ids)),
            store.database.write(undone, lane="papers"),
            return_exceptions=True,
        )
        assert isinstance(results[1], InvalidInput)
        assert not isinstance(results[0], BaseException)
        stored.update(ids)
    return stored


async def test_a_reader_misses_nothing_of_what_many_processes_write(
    stores: Sequence[Store],
) -> None:
    ended = asyncio.Event()
    readers = [asyncio.create_task(tail(stores[0], shard, ended)) for shard in range(SHARDS)]
    chances = [random.Random(writer) for writer in range(WRITERS)]

    try:
        counts = await asyncio.gather(
            *(write_and_fail(stores[n % 3], chance) for n, chance in enumerate(chances))
        )
    finally:
        ended.set()
        feeds = await asyncio.gather(*readers)

    stored = sum(counts, Counter[str]())
    assert sum(map(len, feeds)) == WRITERS * ROUNDS * 4 == stored.total()
    for feed in feeds:
        assert [change.sequence for change in feed] == list(range(1, len(feed) + 1))
        for id, version in contents(feed).items():
            assert version == stored[id]


async def test_settings_that_processes_change_at_once_are_all_kept(
    stores: Sequence[Store],
) -> None:
    def wider(record: CollectionRecord) -> CollectionRecord:
        window = (record.search_defaults.window or 0) + 1
        return replace(record, search_defaults=RankingWish(window=window))

    await asyncio.gather(
        *(
            store.database.write(lambda connection: catalogue.alter(connection, "papers", wider))
            for store in stores
            for _ in range(6)
        )
    )

    record = await stores[0].database.read(lambda connection: catalogue.find(connection, "papers"))
    assert record.search_defaults.window == 3 * 6


async def test_a_request_id_is_applied_once_whichever_processes_get_it(
    stores: Sequence[Store],
) -> None:
    answers = await asyncio.gather(
        *(store.upsert(document("a"), request_id="r") for store in stores for _ in range(4))
    )

    assert len(set(map(str, answers))) == 1
    assert len(await stores[0].feeds()) == 1


async def test_writers_that_lock_crosswise_both_get_through(stores: Sequence[Store]) -> None:
    meeting = threading.Barrier(2)
    tries: Counter[int] = Counter()

    def lock_both(first: int, second: int) -> Callable[[Connection], int]:
        def job(connection: Connection) -> int:
            chosen = select(shard_head.c.head).with_for_update()
            connection.execute(chosen.where(shard_head.c.shard == first))
            tries[first] += 1
            if tries[first] == 1:
                meeting.wait(30)
            connection.execute(chosen.where(shard_head.c.shard == second))
            return first

        return job

    found = await asyncio.gather(
        stores[0].database.write(lock_both(0, 1)),
        stores[1].database.write(lock_both(1, 0)),
    )

    assert [*found] == [0, 1]
    assert sorted(tries.values()) == [1, 2]


async def test_a_server_that_crashes_loses_and_doubles_nothing(server: PostgresServer) -> None:
    store = await Store.create(server.new_database())
    crashed = asyncio.Event()

    async def write(writer: int) -> list[str]:
        ids = [f"{writer}-{number}" for number in range(40)]
        for number, id in enumerate(ids):
            if (writer, number) == (0, 10):
                crashed.set()
            await until_stored(store, document(id), request_id=id)
        return ids

    async def crash() -> None:
        await crashed.wait()
        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(server.start)

    crashing = asyncio.create_task(crash())
    written = await asyncio.gather(*(write(writer) for writer in range(4)))
    await crashing
    feed = await store.feeds()  # raises if there is a gap or the chain is broken
    await store.close()

    assert sorted(change.id for change in feed) == sorted(id for ids in written for id in ids)


async def until_stored(store: Store, given: Document, *, request_id: str) -> None:
    """Sends a batch until it is acknowledged, as clients do."""
    while True:
        try:
            await store.upsert(given, request_id=request_id)
        except StoreUnavailable:
            continue
        return


async def test_a_reader_does_not_notice_that_the_server_was_started_again(
    server: PostgresServer,
) -> None:
    store = await Store.create(server.new_database())
    await store.upsert(document("a"))
    assert await store.documents.get("papers", "a") is not None

    await asyncio.to_thread(server.crash)
    with pytest.raises(StoreUnavailable):
        await store.documents.get("papers", "a")
    await asyncio.to_thread(server.start)

    assert await store.documents.get("papers", "a") is not None
    await store.close()


async def test_a_collection_that_is_removed_meanwhile_is_not_found(
    stores: Sequence[Store],
) -> None:
    found, removed = threading.Event(), threading.Event()

    def append_late(connection: Connection) -> None:
        record = catalogue.find(connection, "papers")
        found.set()
        removed.wait(30)
        append(connection, record, UPSERT, [Write("a", ("title", "text", "{}"))])

    late = asyncio.create_task(stores[0].database.write(append_late))
    await asyncio.to_thread(found.wait, 30)
    await stores[1].database.write(lambda connection: catalogue.remove(connection, "papers"))
    removed.set()

    with pytest.raises(NotFound):
        await late


async def test_commits_are_durable_where_the_servers_default_is_not(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")

    database = await Database.create(url)
    setting = text("SHOW synchronous_commit")
    found = await database.write(lambda connection: connection.execute(setting).scalar_one())
    await database.close()

    assert found == "on"


async def test_two_processes_may_make_the_tables_at_once(url: str) -> None:
    databases = await asyncio.gather(*(Database.create(url) for _ in range(4)))

    chosen = select(collection.c.uid)
    for database in databases:
        assert await database.read(lambda c: c.execute(chosen).all()) == []
        await database.close()


@pytest.mark.parametrize("change", [("postgres@", "nobody-here@"), ("/t", "/no-such-")])
async def test_a_user_or_database_that_is_not_there_is_refused(
    url: str, change: tuple[str, str]
) -> None:
    with pytest.raises(BadEnvironment, match="does not exist"):
        await Database.create(url.replace(*change, 1))


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        await Database.create("postgresql://postgres@/trireme?host=/no/such/folder")


async def test_other_databases_are_refused() -> None:
    with pytest.raises(BadEnvironment, match="neither"):
        await Database.create("mysql://root@localhost/trireme")


async def test_what_is_stored_of_a_batch_is_looked_up_in_the_index(url: str) -> None:
    """Also while the table has grown and nobody has told the planner how far."""
    store = await Store.create(url)
    seen: list[tuple[str, object]] = []

    def note(
        _connection: object, _cursor: object, statement: str, values: object, *_: object
    ) -> None:
        if "FROM document" in statement:
            seen.append((statement, values))

    def plan(connection: Connection) -> str:
        statement, values = seen[-1]
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", values)  # type: ignore[arg-type]
        return "\n".join(row[0] for row in rows)

    await store.upsert(*(document(f"doc-{number}") for number in range(8_000)))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        await store.upsert(*(document(f"doc-{number}") for number in range(100)))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    explained = await store.database.read(plan)
    await store.close()

    (condition,) = re.findall("Index Cond: (.*)", explained)
    assert "id = ANY" in condition
