"""What a snapshot is made of, and a restore that ends in the midst."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from core.deadline import Deadline
from core.documents import Document
from core.errors import CorruptFile, NewerFormat, NotFound, SnapshotExists
from core.index_store import IndexStore
from core.manifest import FileEntry
from indexer import catalogue
from indexer.catalogue import CollectionRecord
from indexer.database import Database
from indexer.snapshots import lines, rows
from indexer.snapshots.archive import Archive
from indexer.snapshots.lines import Line, read_part, write_parts
from indexer.snapshots.manifest import SnapshotManifest
from indexer.store import DocumentStore

RECORD = CollectionRecord(
    uid="1" * 32,
    name="ships",
    shard_count=2,
    encoder_model="bi_encoder",
    encoder_version="1",
    encoder_fingerprint="f" * 64,
    dimension=8,
    similarity="cosine",
    max_tokens=128,
    overlap_tokens=0,
    create_micros=1,
)
MANIFEST = SnapshotManifest(
    name="s",
    collection="ships",
    uid="1" * 32,
    documents=1,
    create_micros=2,
    settings="{}",
    files=(FileEntry("documents-00000.jsonl.gz", 1, "a" * 64),),
)


def line(number: int) -> Line:
    return Line(f"d{number}", "Titel", f"text {number} \u00fc \U0001f6a2", "{}", number + 1, 7)


def test_documents_survive_as_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PART_BYTES", 300)
    written = [line(number) for number in range(10)]

    paths, count = write_parts(written, tmp_path)

    assert (count, len(paths) > 1) == (10, True)
    assert [each for path in paths for each in read_part(path)] == written


def test_equal_documents_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_parts([line(1)], tmp_path / name)

    first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("damage", [lambda d: d[:-12], lambda d: b"x" + d, lambda d: b""])
def test_what_is_no_file_of_documents_is_corrupt(tmp_path: Path, damage: object) -> None:
    (path,), _ = write_parts([line(1)], tmp_path)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()) or b"\x1f")

    with pytest.raises(CorruptFile):
        list(read_part(path))


def test_a_manifest_knows_itself() -> None:
    data = MANIFEST.to_bytes()

    assert SnapshotManifest.from_bytes(data, "here") == MANIFEST
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(CorruptFile):
            SnapshotManifest.from_bytes(flipped, "here")


def test_a_manifest_of_a_newer_version_is_refused() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        SnapshotManifest.from_bytes(replace(MANIFEST, format=2).to_bytes(), "here")


def test_a_snapshot_is_there_once_its_manifest_is(tmp_path: Path) -> None:
    archive = Archive(IndexStore.create(tmp_path / "index").engine)
    paths, _ = write_parts([line(1)], tmp_path)
    files = archive.store("s", paths)
    assert archive.names() == []

    archive.publish(replace(MANIFEST, files=files))

    assert [each.name for each in archive.every()] == ["s"]
    assert [list(read_part(path)) for path in archive.fetch(archive.read("s"))] == [[line(1)]]
    with pytest.raises(SnapshotExists):
        archive.publish(replace(MANIFEST, files=()))
    archive.delete("s")
    with pytest.raises(NotFound):
        archive.delete("s")


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = await Database.create(f"sqlite:///{tmp_path / 'store.db'}")
    yield found
    await found.close()


async def restore(database: Database, record: CollectionRecord, *, stop_after: int = 1_000) -> None:
    """As the indexer does; ends before the last step if there are more documents."""
    feeds = rows.Feeds(record.uid, record.shard_count)
    changes = feeds.extend([line(number) for number in range(min(6, stop_after))])
    await database.write(lambda connection: rows.begin(connection, record.uid))
    await database.write(lambda connection: rows.put(connection, record.uid, changes))
    if stop_after >= 6:
        await database.write(lambda connection: rows.finish(connection, record, feeds))


async def purge(database: Database) -> None:
    for uid in await database.read(catalogue.unfinished_removals):
        while not await database.write(partial(_purge, uid)):
            pass


def _purge(uid: str, connection: Connection) -> bool:
    return catalogue.purge(connection, uid)


async def test_a_restore_that_ends_in_the_midst_is_never_seen(database: Database) -> None:
    await restore(database, RECORD, stop_after=3)
    with pytest.raises(NotFound):
        await database.read(lambda connection: catalogue.find(connection, "ships"))
    assert await database.read(catalogue.unfinished_removals) == [RECORD.uid]

    await purge(database)
    await restore(database, replace(RECORD, uid="2" * 32))

    assert await database.read(catalogue.unfinished_removals) == []
    found = await database.read(lambda connection: list(rows.newest(connection, "2" * 32)))
    assert sorted(each.id for each in found) == [f"d{number}" for number in range(6)]
    assert not await database.read(lambda connection: list(rows.newest(connection, RECORD.uid)))


async def test_a_restored_feed_goes_on_as_any_other(database: Database) -> None:
    await restore(database, RECORD)
    store = DocumentStore(database, max_waiting=8)

    receipt = await store.upsert(
        "ships", [Document("d0", text="new"), Document("x", text="y")], deadline=Deadline.after(60)
    )

    assert receipt.versions == (line(0).version + 1, 1)
    found = {each.id: each for each in await database.read(_lines)}
    assert found.pop("d0").text == "new"
    assert found.pop("x").version == 1
    assert found == {f"d{number}": line(number) for number in range(1, 6)}


def _lines(connection: Connection) -> list[Line]:
    return list(rows.newest(connection, RECORD.uid))


def test_settings_survive_as_json() -> None:
    settings = json.dumps(catalogue.values_of(RECORD))

    assert catalogue.record_of(json.loads(settings)) == RECORD
