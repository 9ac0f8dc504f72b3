"""Rebuilding, compacting and resting: one shard's index between batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.documents import Document
from core.errors import StorageFull
from core.index_store import ShardStore
from core.manifest import Manifest, SegmentEntry
from indexer.chores import Chore, choose_all
from indexer.ingest import ShardIngest
from indexer.merge import MergePolicy
from indexer.tasks import COMPACT, REBUILD
from tests.fakes.write_path import WritePath, contents_of

POLICY = MergePolicy(most_rows=100)


def segment(id: str, documents: int, dead: int = 0) -> SegmentEntry:
    return SegmentEntry(id, documents, documents, (), dead_documents=dead, dead_passages=dead)


def test_a_compaction_merges_what_fits_and_drops_what_is_dead() -> None:
    small, other = segment("small", 10), segment("other", 20)
    large = segment("large", 50)

    assert choose_all([small, large, other], POLICY) == ("small", "other")
    assert choose_all([large], POLICY) == ()
    assert choose_all([segment("dirty", 50, dead=1)], POLICY) == ("dirty",)
    assert choose_all([large, segment("dirty", 51, dead=1)], POLICY) == ("dirty",)
    assert choose_all([large, segment("beside", 50)], POLICY) == ()
    assert choose_all([], POLICY) == ()


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[WritePath]:
    path = await WritePath.create(tmp_path, idle_seconds=0.0)
    yield path
    await path.close()


async def write_in_pieces(path: WritePath, ingest: ShardIngest) -> None:
    """Several segments, with documents that were replaced and removed."""
    for number in range(6):
        await path.upsert(*(Document(f"d{number}-{n}", text="heart and lung") for n in range(4)))
        ingest.wake((await path.head()).head)
        await path.caught_up(ingest)
    await path.upsert(Document("d0-0", text="liver"), Document("d1-0", text="liver"))
    await path.delete("d2-0", "d3-1")
    ingest.wake((await path.head()).head)
    await path.caught_up(ingest)


async def do(ingest: ShardIngest, kind: str) -> Chore:
    chore = Chore(kind)
    ingest.chores.give(chore)
    await chore.ended.wait()
    return chore


def dead(path: WritePath) -> int:
    return sum(entry.dead_documents for entry in path.current().segments)


async def test_a_compacted_index_holds_the_same_without_the_dead(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        before, sizes = path.current(), [file.size for file in path.current().lexical]
        assert len(before.segments) > 1
        assert dead(path) == 4
        contents = contents_of(path.files(), before)

        chore = await do(ingest, COMPACT)

        after = path.current()
        assert len(after.segments) == 1
        assert dead(path) == 0
        assert contents_of(path.files(), after) == contents
        assert chore.done >= 1
        assert sum(file.size for file in after.lexical) < sum(sizes)
        assert not [file for file in after.lexical if file.name.endswith(".del")]


async def test_a_compacted_index_takes_in_what_is_written_next(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        await do(ingest, COMPACT)
        await path.upsert(Document("new", text="heart"), Document("d0-1", text="heart"))
        await path.delete("d0-2")
        ingest.wake((await path.head()).head)
        await path.caught_up(ingest)

        found = contents_of(path.files(), path.current())
        assert found["new"] == 1
        assert found["d0-1"] == 2
        assert "d0-2" not in found
        await do(ingest, COMPACT)
        assert contents_of(path.files(), path.current()) == found


async def test_compacting_twice_changes_nothing(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        await do(ingest, COMPACT)
        once = path.current()

        await do(ingest, COMPACT)

        assert path.current() == once


async def test_a_compaction_ends_while_documents_stream_in(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        chore = Chore(COMPACT)
        ingest.chores.give(chore)
        written = 0
        while not chore.ended.is_set():
            await path.upsert(Document(f"more-{written}", text="heart"))
            ingest.wake((await path.head()).head)
            written += 1
        await path.caught_up(ingest)

        assert len(contents_of(path.files(), path.current())) == 6 * 4 - 2 + written


async def test_a_rebuilt_index_holds_the_same(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        before = path.current()
        contents, embedded = contents_of(path.files(), before), path.encoders.texts  # type: ignore[attr-defined]

        chore = await do(ingest, REBUILD)

        after = path.current()
        assert after.order > before.order
        assert after.sequence == before.sequence
        assert contents_of(path.files(), after) == contents
        assert path.encoders.texts > embedded  # type: ignore[attr-defined]
        assert chore.done == chore.total == before.sequence


async def test_the_old_index_is_served_until_the_new_one_has_caught_up(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await write_in_pieces(path, ingest)
        before = path.current()
        path.encoders.may_answer.clear()  # type: ignore[attr-defined]
        path.encoders.embedding.clear()  # type: ignore[attr-defined]
        chore = Chore(REBUILD)
        ingest.chores.give(chore)
        await path.encoders.embedding.wait()  # type: ignore[attr-defined]

        assert path.current() == before
        assert not chore.ended.is_set()
        path.encoders.may_answer.set()  # type: ignore[attr-defined]
        await chore.ended.wait()
        assert path.current() != before


async def test_an_empty_index_can_be_rebuilt_and_compacted(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await ingest.until(0)

        await do(ingest, COMPACT)
        await do(ingest, REBUILD)

        assert path.current().documents == 0


async def test_a_shard_that_rests_writes_again(path: WritePath) -> None:
    ingest = path.ingest()
    rested = path.shared.metrics.step_seconds.labels("rest")
    async with path.running(ingest.run()):
        await path.upsert(Document("a", text="heart"))
        ingest.wake((await path.head()).head)
        await path.caught_up(ingest)
        while not rested._sum.get():
            await asyncio.sleep(0)

        await path.upsert(Document("b", text="lung"))
        ingest.wake((await path.head()).head)
        await path.caught_up(ingest)

        assert contents_of(path.files(), path.current()) == {"a": 1, "b": 1}


async def test_what_was_replaced_goes_once_nothing_is_written_any_more(tmp_path: Path) -> None:
    path = await WritePath.create(tmp_path, idle_seconds=0.0, keep_seconds=0.0, keep_generations=1)
    ingest = path.ingest()
    async with path.running(ingest.run()), asyncio.timeout(20):
        await write_in_pieces(path, ingest)
        needed = {file.sha256 for file in path.current().files()}

        while names_of(path) != needed:
            await asyncio.sleep(0.01)
    await path.close()


async def test_a_full_disk_is_cleared_though_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await WritePath.create(tmp_path, keep_seconds=0.0)
    ingest = path.ingest()
    async with path.running(ingest.run()), asyncio.timeout(20):
        await write_in_pieces(path, ingest)
        needed = {file.sha256 for file in path.current().files()}
        assert names_of(path) > needed

        with monkeypatch.context() as patch:
            patch.setattr(ShardStore, "write_manifest", full)
            await path.upsert(Document("later", text="kidney"))
            ingest.wake((await path.head()).head)
            while names_of(path) != needed:
                await asyncio.sleep(0.01)
            assert ingest.stall.reason.startswith("no space left")
        await path.caught_up(ingest)

        assert not ingest.stall.reason
        assert "later" in contents_of(path.files(), path.current())
    await path.close()


def names_of(path: WritePath) -> set[str]:
    """The files of the shard in the index store."""
    directory = path.shared.config.index_directory / path.record.uid / "0" / "files"
    return {file.name for file in directory.iterdir()}


def full(store: ShardStore, manifest: Manifest) -> str:
    raise StorageFull("no space left for the manifest", remedy="free disk space")
