"""A migration from begin to end with the document store in PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.errors import MigrationActive, NotFound
from indexer.migration.states import State
from tests.fakes.write_path import NAME
from tests.servers.postgresql import PostgresServer
from tests.unit.test_migrations import QUERIES, running


@pytest.fixture
def url(wheel_postgresql: PostgresServer) -> str:
    return wheel_postgresql.new_database()


async def test_there_and_back_and_there_again(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, database_url=url) as stack:
        await stack.write("d1", "d2")
        before = await stack.answering()
        await stack.migrate()
        await stack.until(State.READY)
        await stack.migrations.switch(NAME, force=False)
        await stack.write("d3")
        await stack.migrations.roll_back(NAME, force=False)
        assert await stack.answering() == before
        assert await stack.indexed(before) == {"d1", "d2", "d3"}

        await stack.migrate(auto_switch=True)
        await stack.until(State.SWITCHED)
        await stack.migrations.finish(NAME)
        answering = await stack.answering()
        assert answering.index_name == f"{NAME}~2"
        assert await stack.indexed(answering) == {"d1", "d2", "d3"}
        while stack.trees() != {f"{NAME}~2"}:
            await asyncio.sleep(0)


async def test_two_calls_at_once_begin_one_migration(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, database_url=url) as stack:
        begun = await asyncio.gather(*(stack.migrate() for _ in range(4)), return_exceptions=True)

        refused = [each for each in begun if isinstance(each, MigrationActive)]
        assert len(refused) == 4 - 1


async def test_a_deleted_collection_leaves_no_migration(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, database_url=url) as stack:
        await stack.migrate(*QUERIES)
        await stack.collections.delete(NAME)

        with pytest.raises(NotFound):
            await stack.migrations.get(NAME)
        assert stack.trees() == set()
