"""A collection moves to another encoder version while it is searched and written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from core.rpc import open_channel, reason_of
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Family, running
from tests.paths.test_cli import trireme
from trireme.v1 import collection_pb2, migration_pb2, migration_pb2_grpc, ranking_pb2, search_pb2

HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)
COLLECTION = "papers"
VERSION_2 = collection_pb2.ModelVersion(model="bi_encoder", version="2")
EVERYTHING = "word"
READY = migration_pb2.MIGRATION_STATE_READY
REFUSED = migration_pb2.MIGRATION_STATE_REFUSED
SWITCHED = migration_pb2.MIGRATION_STATE_SWITCHED


@dataclass(frozen=True)
class Migrating(Family):
    """A family whose Triton serves two versions of the encoder."""

    @property
    def migrations(self) -> Any:
        return migration_pb2_grpc.MigrationServiceStub(self.channel)

    async def create(self) -> None:
        """An empty collection made with version 1."""
        wanted = collection_pb2.Collection(
            name=COLLECTION, encoder=collection_pb2.ModelVersion(model="bi_encoder", version="1")
        )
        await self.collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=wanted), timeout=SECONDS
        )

    async def remove(self) -> None:
        request = collection_pb2.DeleteCollectionRequest(name=COLLECTION)
        await self.collections.DeleteCollection(request, timeout=SECONDS)

    async def migrate(self, **wish: Any) -> migration_pb2.Migration:
        request = migration_pb2.MigrateCollectionRequest(
            collection=COLLECTION, encoder=VERSION_2, **wish
        )
        reply = await self.migrations.MigrateCollection(request, timeout=SECONDS)
        found: migration_pb2.Migration = reply.migration
        return found

    async def migration(self) -> migration_pb2.Migration:
        request = migration_pb2.GetMigrationRequest(collection=COLLECTION)
        found: migration_pb2.Migration = (
            await self.migrations.GetMigration(request, timeout=SECONDS)
        ).migration
        return found

    async def until(self, state: migration_pb2.MigrationState.ValueType) -> migration_pb2.Migration:
        """The migration once it is in a state; the test's own patience is the limit."""
        while (found := await self.migration()).state != state:
            pass
        return found

    async def switch(self, **how: Any) -> None:
        request = migration_pb2.SwitchMigrationRequest(collection=COLLECTION, **how)
        await self.migrations.SwitchMigration(request, timeout=SECONDS)

    async def roll_back(self, **how: Any) -> None:
        request = migration_pb2.RollbackMigrationRequest(collection=COLLECTION, **how)
        await self.migrations.RollbackMigration(request, timeout=SECONDS)

    async def find(self, text: str = EVERYTHING, **fields: Any) -> search_pb2.SearchResponse:
        return await self.search(COLLECTION, text, rerank=HYBRID_ALONE, **fields)

    async def ids(self, **fields: Any) -> set[str]:
        reply = await self.find(page_size=1000, **fields)
        assert not reply.degraded
        return {hit.document.id for hit in reply.hits}


@pytest_asyncio.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Migrating]:
    state = tmp_path_factory.mktemp("migrating") / "state"
    async with (
        FakeTriton(versions=("1", "2")) as triton,
        running(state, triton, shadow_queries=5) as cluster,
        open_channel(cluster.address) as channel,
    ):
        yield Migrating(cluster, triton, channel)


@pytest_asyncio.fixture
async def family(fleet: Migrating) -> AsyncIterator[Migrating]:
    """With an empty collection made with version 1, which is gone afterwards."""
    await fleet.create()
    yield fleet
    fleet.triton.set_fault("ok")
    await fleet.remove()


@dataclass
class Traffic:
    """Searches and writes one after another, and what became of them."""

    family: Migrating
    acknowledged: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    searches: int = 0
    stopping: bool = False

    async def write(self) -> None:
        while not self.stopping:
            id = f"live-{len(self.acknowledged)}"
            position = await self.family.put(COLLECTION, **{id: f"word number {id}"})
            self.acknowledged.add(id)
            # So that what is acknowledged is also asked for while indexes change places.
            reply = await self.family.find(f"number {id}", min_position=position)
            self._note(reply, id)

    async def search(self) -> None:
        while not self.stopping:
            self._note(await self.family.find(page_size=1000), "")

    def _note(self, reply: search_pb2.SearchResponse, wanted: str) -> None:
        self.searches += 1
        self.versions.append(reply.encoder.version)
        if reply.degraded:
            self.failures.append(str(reply.degraded))
        elif wanted and wanted not in {hit.document.id for hit in reply.hits}:
            self.failures.append(f"{wanted} is missing")

    async def more(self, count: int) -> None:
        """Returns after so many more searches."""
        goal = self.searches + count
        while self.searches < goal:
            await asyncio.sleep(0)


@asynccontextmanager
async def traffic(family: Migrating) -> AsyncIterator[Traffic]:
    flowing = Traffic(family)
    tasks = [asyncio.create_task(flowing.write()), asyncio.create_task(flowing.search())]
    try:
        yield flowing
    finally:
        flowing.stopping = True
        await asyncio.gather(*tasks)


async def test_searches_and_writes_go_on_while_a_collection_migrates(family: Migrating) -> None:
    stored = {f"d{number}": f"word of document {number}" for number in range(60)}
    await family.put(COLLECTION, **stored)

    async with traffic(family) as flowing:
        await family.migrate()
        await family.until(READY)
        await flowing.more(5)
        await family.switch()
        await flowing.more(5)
        after_switch = await family.find()
        await family.roll_back()
        await flowing.more(5)

    assert flowing.failures == []
    assert after_switch.encoder.version == "2"
    assert (await family.find()).encoder.version == "1"
    assert set(flowing.versions) == {"1", "2"}
    assert await family.ids() >= stored.keys() | flowing.acknowledged


def queries(*texts: str, **judgments: int) -> list[migration_pb2.ShadowQuery]:
    return [migration_pb2.ShadowQuery(text=text, judgments=judgments) for text in texts]


async def test_a_gateway_compares_and_a_passed_gate_switches(family: Migrating) -> None:
    await family.put(COLLECTION, owl="the owl hunts at night", rates="interest rates rose")
    await family.migrate(
        queries=queries("owl", "interest rates", owl=1),
        gate=migration_pb2.Gate(min_overlap=0.5, max_ndcg_loss=1.0),
        auto_switch=True,
    )

    found = await family.until(SWITCHED)

    assert found.comparison.passed
    assert (found.comparison.query_count, found.comparison.incomplete_count) == (2, 0)
    assert found.comparison.judged_count == 2
    assert found.comparison.mean_overlap == 1
    # Searches follow as soon as shards have looked.
    while (await family.find()).encoder.version != "2":
        pass


async def test_a_gate_that_is_not_passed_is_told_and_nothing_changes(family: Migrating) -> None:
    stored = {f"d{number}": f"word of document {number}" for number in range(40)}
    await family.put(COLLECTION, **stored)
    gate = migration_pb2.Gate(min_overlap=1.0)
    found = await family.migrate(queries=queries("word of document"), gate=gate, auto_switch=True)
    dense = search_pb2.SEARCH_MODE_DENSE
    refused = await family.until(REFUSED)

    # The two versions embed differently, so the first ten of forty like documents differ.
    assert refused.comparison.mean_overlap < 1
    assert "overlap@10 is" in refused.message
    assert (await family.find(mode=dense)).encoder.version == "1"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await family.switch()
    assert reason_of(error.value) == "MIGRATION_NOT_READY"
    await family.switch(force=True)
    assert (await family.find(mode=dense)).encoder.version == found.target.encoder.version


async def test_live_queries_are_compared_by_where_gateways_remember_them(
    family: Migrating,
) -> None:
    position = await family.put(COLLECTION, owl="the owl hunts at night", rates="interest rates")
    for text in ("owl", "night", "rates"):
        await family.find(text, min_position=position)
    await family.migrate(live_queries=2)

    found = await family.until(READY)

    assert found.comparison.query_count == 2
    assert found.comparison.lowest_query in {"night", "rates"}


async def test_pages_of_the_old_index_go_on_after_a_switch_and_back(family: Migrating) -> None:
    stored = {f"d{number}": f"word of document {number}" for number in range(30)}
    position = await family.put(COLLECTION, **stored)
    await family.migrate()
    await family.until(READY)
    first = await family.find(page_size=10, min_position=position)
    await family.switch()
    token = first.next_page_token
    second = await family.find(page_size=10, min_position=position, page_token=token)
    await family.roll_back()
    token = second.next_page_token
    third = await family.find(page_size=10, min_position=position, page_token=token)

    pages = [[hit.document.id for hit in page.hits] for page in (first, second, third)]
    assert sorted(id for page in pages for id in page) == sorted(stored)
    assert {page.encoder.version for page in (first, second, third)} == {"1"}


async def test_an_index_can_be_searched_by_its_own_name(family: Migrating) -> None:
    position = await family.put(COLLECTION, owl="the owl hunts at night")
    found = await family.migrate()
    await family.until(READY)

    for index in (found.source, found.target):
        reply = await family.search(index.name, "owl", rerank=HYBRID_ALONE, min_position=position)
        assert reply.encoder.version == index.encoder.version
        assert [hit.document.id for hit in reply.hits] == ["owl"]


async def test_what_cannot_be_asked_of_a_migration_is_said(family: Migrating) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await family.migration()
    assert reason_of(error.value) == "MIGRATION_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await family.migrate(gate=migration_pb2.Gate(max_ndcg_loss=0.1))
    assert "needs queries with judgments" in (error.value.details() or "")
    await family.migrate()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await family.migrate()
    assert reason_of(error.value) == "MIGRATION_ACTIVE"
    found = await family.until(READY)
    assert [shard.stalled_reason for shard in found.shards] == ["", ""]


async def test_the_command_shows_a_migration_from_begin_to_end(
    family: Migrating, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    await family.put(COLLECTION, owl="the owl hunts at night", rates="interest rates rose")
    texts, judgments = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    texts.write_text('{"_id": "q1", "text": "owl"}\n')
    judgments.write_text("query-id\tcorpus-id\tscore\nq1\towl\t1\n")

    async def migrate(*options: str) -> str:
        code, output, errors = await trireme(
            "migrate", COLLECTION, *options, *at, journals=tmp_path
        )
        assert (code, errors) == (0, "")
        return output

    begun = await migrate(
        *("--to", "bi_encoder:2", "--queries", str(texts), "--qrels", str(judgments)),
        *("--min-overlap", "0.5", "--max-ndcg-loss", "0.1", "--auto-switch"),
    )
    assert "switched" in begun
    assert "--finish, or --rollback" in begun
    assert "papers~1: bi_encoder:2" in begun
    assert "1.0000 to 1.0000 over 1 judged" in begun
    assert "finished" in await migrate("--finish")
    code, _, errors = await trireme("migrate", COLLECTION, "--rollback", *at, journals=tmp_path)
    assert code == 1
    assert "[MIGRATION_NOT_READY]" in errors
