"""Names, tasks and the quarantine on every document store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from core.documents import Document
from core.errors import AliasExists, CollectionHasAliases
from core.names import Names
from indexer import aliases, catalogue, quarantine, suspects, tasks
from indexer import names as names_in
from indexer.names import NameBook
from indexer.tasks import COMPACT
from tests.fakes.write_path import NAME, WritePath

OTHER = "books"


@pytest.fixture
async def path(tmp_path: Path, database_url: str) -> AsyncIterator[WritePath]:
    """A store with the collections `papers` and `books`."""
    path = await WritePath.create(tmp_path, shard_count=2, database_url=database_url)
    other = replace(path.record, uid="0" * 31 + "2", name=OTHER)
    await path.shared.database.write(lambda connection: catalogue.add(connection, other))
    yield path
    await path.close()


async def test_changes_at_once_each_have_a_revision_of_their_own(path: WritePath) -> None:
    book = NameBook(path.shared)
    names = [f"alias-{n}" for n in range(8)]

    await asyncio.gather(*(book.change(partial(aliases.add, name=n, target=NAME)) for n in names))
    await asyncio.gather(*(book.change(partial(aliases.move, name=n, target=OTHER)) for n in names))

    stored = await path.shared.database.read(names_in.read)
    assert stored == Names(2 * len(names), dict.fromkeys(names, OTHER))
    assert Names.from_bytes(path.shared.index_store.read_names()) == stored


async def test_an_alias_is_found_listed_and_protects_its_collection(path: WritePath) -> None:
    database = path.shared.database
    for name in ("b", "a", "c"):
        await database.write(partial(aliases.add, name=name, target=NAME))

    page = await database.read(partial(aliases.page, after="a", limit=1))
    assert [each.name for each in page] == ["b"]
    assert (await database.read(partial(catalogue.find, name="c"))).uid == path.record.uid
    assert await database.read(partial(aliases.of, uids=[path.record.uid])) == {
        path.record.uid: ["a", "b", "c"]
    }
    with pytest.raises(CollectionHasAliases):
        await database.write(partial(catalogue.remove, name=NAME))
    with pytest.raises(AliasExists):
        await database.write(partial(aliases.add, name="a", target=OTHER))


async def test_what_is_set_aside_is_paged_and_written_again_once(path: WritePath) -> None:
    await path.upsert(*(Document(f"d{n}", title="t", text=f"heart {n}") for n in range(6)))
    await path.upsert(Document("d0", text="newer"))
    database, record = path.shared.database, path.record
    for shard in range(2):
        for change in await path.changes(shard):
            if change.id != "d5":
                await database.write(
                    partial(
                        suspects.set_aside, uid=record.uid, shard=shard, change=change, reason="bad"
                    )
                )
    await path.upsert(Document("d1", text="newer"))

    whole = await database.read(partial(quarantine.page, record=record, after=(0, 0), limit=9))
    assert sorted((each.id, each.version) for each in whole) == [
        ("d0", 2),
        ("d2", 1),
        ("d3", 1),
        ("d4", 1),
    ]
    second = (whole[1].shard, whole[1].sequence)
    rest = await database.read(partial(quarantine.page, record=record, after=second, limit=9))
    assert rest == whole[2:]

    some = await database.write(partial(quarantine.retry, record=record, ids=["d2", "d5", "d1"]))
    every = await database.write(partial(quarantine.retry, record=record, ids=[]))
    again = await database.write(partial(quarantine.retry, record=record, ids=[]))

    assert (some.ids, every.ids, again.ids) == (["d2"], ["d0", "d3", "d4"], ())
    document = await path.store.get(NAME, "d2")
    assert document is not None
    assert (document.version, document.title, document.text) == (2, "t", "heart 2")


async def test_a_task_stays_until_its_last_shard_is_done(path: WritePath) -> None:
    database, record = path.shared.database, path.record

    first = await database.write(partial(tasks.ask, record=record, kind=COMPACT))
    await database.write(partial(tasks.end, uid=record.index, kind=COMPACT, shard=0))
    same = await database.write(partial(tasks.ask, record=record, kind=COMPACT))
    left = await database.read(partial(tasks.unfinished, uid=record.index))
    await database.write(partial(tasks.end, uid=record.index, kind=COMPACT, shard=1))
    anew = await database.write(partial(tasks.ask, record=record, kind=COMPACT))

    assert [each.end_micros for each in first] == [0, 0]
    assert same[0].end_micros > 0
    assert left == [(COMPACT, 1)]
    assert [each.end_micros for each in anew] == [0, 0]
