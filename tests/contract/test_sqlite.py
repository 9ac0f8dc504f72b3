"""What holds of the document store in SQLite alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from core.errors import BadEnvironment, StorageFull
from indexer.database import Database
from tests.fakes.document_store import Store, document


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.create(f"sqlite:///{tmp_path}/store.db")
    yield store
    await store.close()


async def test_a_full_disk_stores_nothing_and_says_so(store: Store) -> None:
    await store.upsert(document("a"))
    pages = await store.database.write(
        lambda connection: connection.execute(text("PRAGMA page_count")).scalar_one()
    )
    limit = text(f"PRAGMA max_page_count = {pages + 2}")
    await store.database.write(lambda connection: connection.execute(limit).scalar_one())
    before = await store.feeds()

    with pytest.raises(StorageFull):
        await store.upsert(*(document(f"new-{n}", "x" * 10_000) for n in range(20)))

    assert await store.feeds() == before
    lifted = text("PRAGMA max_page_count = 1000000")
    await store.database.write(lambda connection: connection.execute(lifted).scalar_one())
    await store.upsert(*(document(f"new-{n}", "x" * 10_000) for n in range(20)))
    assert len(await store.feeds()) == len(before) + 20


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nonsense"])
async def test_a_store_that_could_not_keep_anything_is_refused(url: str) -> None:
    with pytest.raises(BadEnvironment):
        await Database.create(url)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(BadEnvironment):
        await Database.create(f"sqlite:///{tmp_path}/store.db")


async def test_commits_are_synced_before_they_are_acknowledged(store: Store) -> None:
    def setting(name: str) -> Any:
        return lambda connection: connection.execute(text(f"PRAGMA {name}")).scalar_one()

    assert await store.database.write(setting("synchronous")) == 2  # FULL
    assert await store.database.write(setting("journal_mode")) == "wal"
