"""Migrations in one process: every step, and a restart after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from core.deadline import Deadline
from core.documents import Document
from core.errors import InvalidInput, MigrationActive, MigrationNotReady, NotFound
from core.index_store import IndexStore
from core.manifest import Manifest
from core.ranking_wish import RankingWish
from indexer import catalogue, names
from indexer.collections import Collections
from indexer.encoders import TermEncoder, TextEncoder
from indexer.fleet import Fleet
from indexer.migration.gate import Comparison, Gate
from indexer.migration.indexes import Indexes
from indexer.migration.migrations import Migrations, MigrationStatus
from indexer.migration.records import Plan, ShadowQuery
from indexer.migration.states import State
from indexer.migration.target import ModelWish, TargetWish
from indexer.names import NameBook
from indexer.shared import Shared
from tests.fakes.write_path import NAME, FakeEncoders, WritePath, contents_of

SOON = 60.0
VERSION_2 = TargetWish(encoder=ModelWish("bi_encoder", "2"))
QUERIES = (ShadowQuery("owl", {"d1": 1}),)
ALIKE = Comparison(1, 0, 1.0, 1.0, "owl", 1, 1.0, 1.0, 0.0, 0.0, compare_micros=0)


class TwoVersions:
    """An encoder in two versions with fingerprints of their own."""

    def __init__(self) -> None:
        self.versions = {"1": FakeEncoders("fake"), "2": FakeEncoders("fake-2")}
        for version, encoders in self.versions.items():
            encoders.info = replace(encoders.info, version=version)

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        return await self.get(model, "2", deadline)

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        return await self.versions[version].get(model, version, deadline, fingerprint=fingerprint)

    async def get_sparse(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TermEncoder:
        raise NotFound("MODEL_NOT_FOUND", "there is none in this test")

    def forget(self, model: str, version: str) -> None:
        pass


@dataclass
class Stack:
    """An indexer without its services."""

    path: WritePath
    shared: Shared
    encoders: TwoVersions
    fleet: Fleet
    collections: Collections
    migrations: Migrations

    async def migrate(self, *queries: ShadowQuery, **plan: Any) -> MigrationStatus:
        wish = plan.pop("wish", VERSION_2)
        deadline = Deadline.after(SOON)
        return await self.migrations.migrate(NAME, wish, Plan(**plan), queries, deadline)

    async def write(self, *ids: str) -> None:
        receipt = await self.path.upsert(*(Document(id=id, text="an owl at night") for id in ids))
        self.fleet.wake(receipt.uid, receipt.position)

    async def until(self, state: State) -> MigrationStatus:
        while (found := await self.migrations.get(NAME)).migration.state is not state:
            await asyncio.sleep(0)
        return found

    async def answering(self) -> catalogue.CollectionRecord:
        return await self.shared.database.read(lambda c: catalogue.find(c, NAME))

    async def indexed(self, record: catalogue.CollectionRecord) -> set[str]:
        """The documents of an index once it has caught up with its feed."""
        head = await self.path.head()
        await self.fleet.until_covered(record.index, {0: head.head})
        files, manifest = self.published(record)
        return set(contents_of(files, manifest))

    def published(self, record: catalogue.CollectionRecord) -> tuple[Any, Manifest]:
        store = IndexStore.open(self.shared.config.index_directory)
        files = store.shard(record.index, 0)
        manifest = files.read_current()
        assert manifest is not None
        return files, manifest

    def trees(self) -> set[str]:
        """Names of the indexes in the index store."""
        return {entry.name for entry in self.shared.index_store.collections()}


@asynccontextmanager
async def running(root: Path, **settings: Any) -> AsyncIterator[Stack]:
    """An indexer on the state below `root`, for the time of a block; nothing is kept of it."""
    path = await WritePath.create(root, keep_seconds=0.0, **settings)
    encoders = TwoVersions()
    shared = replace(path.shared, encoders=encoders)
    fleet = Fleet(shared, root / "work")
    book = NameBook(shared)
    collections = Collections(shared, fleet, book)
    migrations = Migrations(shared, Indexes(shared, fleet, collections), book)
    await collections.start()
    await migrations.start()
    try:
        yield Stack(path, shared, encoders, fleet, collections, migrations)
    finally:
        await migrations.stop()
        await collections.stop()
        await path.close()


async def test_the_target_takes_the_sources_place_with_every_document(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1", "d2")
        begun = (await stack.migrate()).migration
        await stack.until(State.READY)
        await stack.write("d3")
        await stack.migrations.switch(NAME, force=False)

        record = await stack.answering()
        assert (record.index_name, record.encoder_version) == (f"{NAME}~1", "2")
        assert record.uid == begun.live.uid
        assert await stack.indexed(record) == {"d1", "d2", "d3"}
        _, manifest = stack.published(record)
        assert (manifest.collection, manifest.encoder.fingerprint) == (f"{NAME}~1", "fake-2")
        told = await stack.shared.database.read(names.read)
        assert told.indexes == {NAME: f"{NAME}~1"}


async def test_after_a_rollback_everything_is_as_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1")
        before = await stack.answering()
        await stack.migrate()
        await stack.until(State.READY)
        await stack.migrations.switch(NAME, force=False)
        await stack.write("d2")
        await stack.migrations.roll_back(NAME, force=False)

        assert await stack.answering() == before
        assert await stack.indexed(before) == {"d1", "d2"}
        while stack.trees() != {NAME}:
            await asyncio.sleep(0)


async def test_a_finished_migration_releases_the_source(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1")
        await stack.migrate(auto_switch=True)
        await stack.until(State.SWITCHED)
        assert stack.trees() == {NAME, f"{NAME}~1"}
        await stack.migrations.finish(NAME)
        while stack.trees() != {f"{NAME}~1"}:
            await asyncio.sleep(0)
        await stack.write("d2")

        assert await stack.indexed(await stack.answering()) == {"d1", "d2"}
        again = (await stack.migrate(wish=TargetWish())).migration
        assert again.target_record.index_name == f"{NAME}~2"
        assert again.target["encoder_version"] == "2"


async def test_documents_and_their_versions_are_not_touched(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1")
        await stack.write("d1")
        await stack.migrate(auto_switch=True)
        await stack.until(State.SWITCHED)
        await stack.migrations.finish(NAME)

        found = await stack.path.store.get(NAME, "d1")
        assert found is not None
        assert found.version == 2


@pytest.mark.parametrize(
    "reached", [State.BUILDING, State.COMPARING, State.REFUSED, State.READY, State.SWITCHED]
)
async def test_a_migration_goes_on_after_a_restart(tmp_path: Path, reached: State) -> None:
    gate = Gate(min_overlap=0.5)
    async with running(tmp_path, batch_documents=1) as stack:
        await stack.write("d1", "d2", "d3")
        if reached is State.BUILDING:
            stack.encoders.versions["2"].may_answer.clear()
        await stack.migrate(*QUERIES, gate=gate)
        if reached is not State.BUILDING:
            await stack.until(State.COMPARING)
        if reached in (State.READY, State.SWITCHED):
            await stack.migrations.record(NAME, f"{NAME}~1", ALIKE)
        if reached is State.REFUSED:
            await stack.migrations.record(NAME, f"{NAME}~1", replace(ALIKE, mean_overlap=0.4))
        if reached is State.SWITCHED:
            await stack.migrations.switch(NAME, force=False)
        assert (await stack.migrations.get(NAME)).migration.state is reached
        stack.encoders.versions["2"].may_answer.set()

    async with running(tmp_path, batch_documents=1) as stack:
        await stack.write("d4")
        if reached is State.BUILDING:
            await stack.until(State.COMPARING)
        found = (await stack.migrations.get(NAME)).migration
        if reached is not State.BUILDING:
            assert found.state is reached
        both = {"d1", "d2", "d3", "d4"}
        assert await stack.indexed(found.source_record) == both
        assert await stack.indexed(found.target_record) == both
        await stack.migrations.roll_back(NAME, force=False)
        while stack.trees() != {NAME}:
            await asyncio.sleep(0)


async def test_a_release_that_was_not_done_is_done_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate(auto_switch=True)
        await stack.until(State.SWITCHED)
        # As if the process had died right after the transaction.
        known = (await stack.migrations.get(NAME)).migration
        await stack.migrations.stop()
        await stack.migrations.finish(known.live.name)
        await stack.migrations.stop()

    async with running(tmp_path) as stack:
        while stack.trees() != {f"{NAME}~1"}:
            await asyncio.sleep(0)
        assert (await stack.answering()).encoder_version == "2"


async def test_one_migration_at_a_time(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate()
        with pytest.raises(MigrationActive, match="has a migration that is"):
            await stack.migrate()


async def test_a_gate_that_refuses_is_told_and_force_overrides_it(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate(*QUERIES, gate=Gate(min_overlap=0.9), auto_switch=True)
        await stack.until(State.COMPARING)
        poor = replace(ALIKE, mean_overlap=0.5)
        refused = (await stack.migrations.record(NAME, f"{NAME}~1", poor)).migration

        assert refused.reason == "overlap@10 is 0.500, below 0.9"
        assert refused.comparison is not None
        assert not refused.comparison.passed
        with pytest.raises(MigrationNotReady):
            await stack.migrations.switch(NAME, force=False)
        await stack.migrations.switch(NAME, force=True)
        assert (await stack.answering()).encoder_version == "2"


async def test_a_passed_gate_switches_by_itself_if_asked_to(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate(*QUERIES, gate=Gate(min_overlap=0.9), auto_switch=True)
        await stack.until(State.COMPARING)
        await stack.migrations.record(NAME, f"{NAME}~1", ALIKE)

        await stack.until(State.SWITCHED)


async def test_a_report_on_another_target_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate(*QUERIES)
        await stack.until(State.COMPARING)
        with pytest.raises(MigrationNotReady, match="is not the target"):
            await stack.migrations.record(NAME, f"{NAME}~7", ALIKE)


async def test_a_comparison_can_be_asked_for_again_by_other_queries(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate()
        await stack.until(State.READY)
        with pytest.raises(InvalidInput, match="queries"):
            await stack.migrations.compare(NAME, ())
        asked = (await stack.migrations.compare(NAME, QUERIES)).migration

        assert asked.state is State.COMPARING
        assert asked.queries == [*QUERIES]


async def test_search_defaults_reach_both_indexes(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        found = (await stack.migrate()).migration
        await stack.until(State.READY)
        wish = RankingWish(window=7)
        await stack.collections.update(NAME, lambda each: replace(each, search_defaults=wish))
        await stack.write("d1")

        for record in (found.source_record, found.target_record):
            await stack.indexed(record)
            assert stack.published(record)[1].search_defaults == wish
        await stack.migrations.switch(NAME, force=False)
        assert (await stack.answering()).search_defaults == wish


async def test_a_deleted_collection_takes_its_migration_along(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1")
        await stack.migrate()
        await stack.collections.delete(NAME)

        assert stack.trees() == set()
        with pytest.raises(NotFound):
            await stack.migrations.get(NAME)


async def test_the_collection_shows_both_indexes_while_it_migrates(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.migrate()
        await stack.until(State.READY)
        before = (await stack.collections.get(NAME)).other
        await stack.migrations.switch(NAME, force=False)
        after = (await stack.collections.get(NAME)).other
        await stack.migrations.finish(NAME)

        assert before is not None
        assert after is not None
        assert (before.encoder_version, after.encoder_version) == ("2", "1")
        assert (await stack.collections.get(NAME)).other is None


async def test_a_target_that_stands_still_does_not_hold_up_the_source(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await stack.write("d1")
        stack.encoders.versions["2"].may_answer.clear()
        await stack.migrate()
        await stack.write("d2")

        assert await stack.indexed(await stack.answering()) == {"d1", "d2"}
        status = await stack.migrations.get(NAME)
        assert status.migration.state is State.BUILDING
        await stack.migrations.roll_back(NAME, force=False)


async def test_what_is_not_said_stays_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        source = await stack.answering()
        found = (await stack.migrate(wish=TargetWish(max_tokens=20))).migration

        target = found.target_record
        assert (target.max_tokens, target.overlap_tokens) == (20, 8)
        assert target.encoder_fingerprint == source.encoder_fingerprint
        assert target.uid == source.uid
