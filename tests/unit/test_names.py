"""Names: their file, their revisions, and how a gateway takes them over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import (
    AliasExists,
    CollectionExists,
    CollectionHasAliases,
    CorruptFile,
    NotFound,
    StorageFull,
)
from core.names import Names
from gateway.agreed_names import AgreedNames
from indexer import aliases, catalogue
from indexer import names as names_in
from indexer.names import NameBook
from tests.fakes.write_path import NAME, WritePath

OTHER = "books"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[WritePath]:
    """A store with the collections `papers` and `books`."""
    path = await WritePath.create(tmp_path)
    other = replace(path.record, uid="0" * 31 + "2", name=OTHER)
    await path.shared.database.write(lambda connection: catalogue.add(connection, other))
    yield path
    await path.close()


def told(path: WritePath) -> Names:
    """What readers of the index store are told."""
    return Names.from_bytes(path.shared.index_store.read_names())


def test_names_come_back_from_their_file() -> None:
    names = Names(7, {"news": "news-2026"}, {"papers": "papers~2"})

    assert Names.from_bytes(names.to_bytes()) == names
    assert names.collection("news") == "news-2026"
    assert names.collection("papers") == "papers"
    assert names.index("papers") == "papers~2"
    assert names.index("news-2026") == "news-2026"


def test_without_a_file_no_name_stands_for_anything_else() -> None:
    assert Names.from_bytes(None) == Names()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"revision": "x"}', b"\xff"])
def test_a_damaged_file_is_not_taken_for_names(data: bytes) -> None:
    with pytest.raises(CorruptFile):
        Names.from_bytes(data)


async def test_every_change_makes_the_revision_the_next_one(path: WritePath) -> None:
    book = NameBook(path.shared)

    await book.change(lambda connection: aliases.add(connection, "best", NAME))
    assert told(path) == Names(1, {"best": NAME})
    await book.change(lambda connection: aliases.move(connection, "best", OTHER))
    assert told(path) == Names(2, {"best": OTHER})
    await book.change(lambda connection: aliases.remove(connection, "best"))
    assert told(path) == Names(3)


async def test_a_refused_change_changes_nothing(path: WritePath) -> None:
    book = NameBook(path.shared)
    await book.change(lambda connection: aliases.add(connection, "best", NAME))

    refusals = [
        (AliasExists, lambda connection: aliases.add(connection, "best", OTHER)),
        (CollectionExists, lambda connection: aliases.add(connection, OTHER, NAME)),
        (NotFound, lambda connection: aliases.add(connection, "new", "nothing")),
        (NotFound, lambda connection: aliases.add(connection, "new", "best")),
        (NotFound, lambda connection: aliases.move(connection, "new", NAME)),
        (NotFound, lambda connection: aliases.move(connection, "best", "nothing")),
        (NotFound, lambda connection: aliases.remove(connection, "new")),
    ]
    for error, job in refusals:
        with pytest.raises(error):
            await book.change(job)

    assert told(path) == Names(1, {"best": NAME})
    assert await path.shared.database.read(names_in.read) == Names(1, {"best": NAME})


async def test_an_alias_leads_to_its_collection_and_keeps_it(path: WritePath) -> None:
    database = path.shared.database
    await database.write(lambda connection: aliases.add(connection, "best", NAME))

    assert await database.read(lambda c: catalogue.find(c, "best")) == path.record
    assert await database.read(lambda c: aliases.of(c, [path.record.uid])) == {
        path.record.uid: ["best"]
    }
    with pytest.raises(AliasExists):
        await database.write(lambda c: catalogue.add(c, replace(path.record, name="best")))
    for name in (NAME, "best"):
        with pytest.raises(CollectionHasAliases, match="best stand for 'papers'"):
            await database.write(lambda c, name=name: catalogue.remove(c, name))  # type: ignore[misc]


async def test_a_change_that_was_stored_but_not_told_is_told_at_the_next_start(
    path: WritePath,
) -> None:
    book = NameBook(path.shared)
    await book.change(lambda connection: aliases.add(connection, "best", NAME))

    def change_and_die(connection: object) -> None:
        aliases.move(connection, "best", OTHER)  # type: ignore[arg-type]
        names_in.count_up(connection)  # type: ignore[arg-type]

    await path.shared.database.write(change_and_die)
    assert told(path).aliases == {"best": NAME}

    await NameBook(path.shared).start()

    assert told(path) == Names(2, {"best": OTHER})


async def test_a_restored_store_goes_above_what_readers_have_seen(path: WritePath) -> None:
    path.shared.index_store.write_names(Names(9, {"best": OTHER}).to_bytes())

    await NameBook(path.shared).start()

    assert told(path) == Names(10)


async def test_a_start_without_changes_writes_nothing_new(path: WritePath) -> None:
    await NameBook(path.shared).change(lambda connection: aliases.add(connection, "best", NAME))

    await NameBook(path.shared).start()

    assert told(path) == Names(1, {"best": NAME})


async def test_a_damaged_file_is_replaced_at_the_start(path: WritePath) -> None:
    await NameBook(path.shared).change(lambda connection: aliases.add(connection, "best", NAME))
    path.shared.index_store.write_names(b"not names")

    await NameBook(path.shared).start()

    assert told(path) == Names(1, {"best": NAME})


async def test_a_stored_change_is_told_once_the_disk_has_room(
    path: WritePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, store = NameBook(path.shared), path.shared.index_store
    write, full = store.write_names, [True]
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write_names(data: bytes) -> None:
        if full:
            full.pop()
            raise StorageFull("no space in this test")
        write(data)
        loop.call_soon_threadsafe(written.set)

    monkeypatch.setattr(store, "write_names", write_names)
    monkeypatch.setattr(names_in, "RETRY_SECONDS", 0.0)

    await book.change(lambda connection: aliases.add(connection, "best", NAME))
    await written.wait()

    assert told(path) == Names(1, {"best": NAME})
    await book.stop()


async def test_a_gateway_follows_once_every_shard_has_said_so() -> None:
    agreed = AgreedNames(lambda: None)
    old, new = Names(1, {"best": NAME}), Names(2, {"best": OTHER})

    agreed.look([old, old])
    agreed.look([new, old])
    assert agreed.current == old
    agreed.look([new, new])
    assert agreed.current == new
    agreed.stop()


async def test_a_gateway_never_goes_back() -> None:
    agreed = AgreedNames(lambda: None)
    agreed.look([Names(5)])

    agreed.look([Names(4)])

    assert agreed.current == Names(5)
    agreed.look([])
    assert agreed.current == Names(5)


async def test_one_late_shard_does_not_hold_names_up_for_ever() -> None:
    moved = asyncio.Event()
    agreed = AgreedNames(moved.set, patience_seconds=0.0)

    agreed.look([Names(3), Names(2)])
    assert agreed.current == Names(2)
    await moved.wait()

    assert agreed.current == Names(3)
