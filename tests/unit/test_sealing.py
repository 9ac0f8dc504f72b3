"""Large merges run beside publication, lose nothing, and can be given up at any moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from core.documents import Document
from core.errors import StorageFull
from core.manifest import Manifest
from core.vectors.kinds import IVF_SQ8
from core.vectors.settings import VectorSettings
from indexer import sealing
from tests.fakes.write_path import Fuse, WritePath, contents_of, failing_at

SEALED_FROM = 12
SETTINGS = VectorSettings(kind=IVF_SQ8, seal_rows=SEALED_FROM)


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> AsyncIterator[WritePath]:
    path = await WritePath.create(tmp_path, vector_index=SETTINGS, batch_documents=4)
    yield path
    await path.close()


def documents(first: int, count: int, text: str = "heart") -> list[Document]:
    return [Document(id=f"doc-{number}", text=text) for number in range(first, first + count)]


def kinds(manifest: Manifest) -> list[str]:
    return sorted(entry.index.kind if entry.index else "flat" for entry in manifest.segments)


async def published(path: WritePath, wanted: list[str]) -> Manifest:
    """The first generation whose segments have these kinds of vector index."""
    async with asyncio.timeout(60):
        while path.files().read_current() is None or kinds(path.current()) != wanted:
            await path.background_ran()
    return path.current()


@pytest.fixture
def held(path: WritePath) -> Iterator[threading.Event]:
    """Keeps the thread for slow merges busy until it is set."""
    may_go = threading.Event()
    path.shared.background.submit(may_go.wait)
    yield may_go
    may_go.set()


async def test_enough_fresh_vectors_are_sealed_with_their_recall_in_the_manifest(
    path: WritePath,
) -> None:
    await path.upsert(*documents(0, SEALED_FROM))

    async with path.running(path.ingest().run()):
        manifest = await published(path, [IVF_SQ8])

    (entry,) = manifest.segments
    assert entry.index is not None
    assert entry.index.recall >= SETTINGS.target_recall
    assert entry.index.queries > 0
    assert contents_of(path.files(), manifest) == {f"doc-{n}": 1 for n in range(SEALED_FROM)}


async def test_publication_goes_on_while_a_merge_runs_and_what_dies_meanwhile_stays_dead(
    path: WritePath, held: threading.Event
) -> None:
    await path.upsert(*documents(0, SEALED_FROM))
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        assert ingest.sealing.is_busy
        await path.delete("doc-0")
        receipt = await path.upsert(*documents(1, 2, "lung"))
        ingest.wake(receipt.position.sequences[0])
        await path.caught_up(ingest)
        during = path.current()

        held.set()
        manifest = await published(path, ["flat", IVF_SQ8])

    expected = {f"doc-{n}": 2 if n in (1, 2) else 1 for n in range(1, SEALED_FROM)}
    assert IVF_SQ8 not in kinds(during)
    assert contents_of(path.files(), during) == contents_of(path.files(), manifest) == expected
    (entry,) = [each for each in manifest.segments if each.index is not None]
    assert (entry.documents, entry.dead_documents) == (SEALED_FROM, 3)


async def test_a_merge_is_given_up_when_the_write_path_ends(
    path: WritePath, held: threading.Event
) -> None:
    await path.upsert(*documents(0, SEALED_FROM))
    ingest = path.ingest()
    async with path.running(ingest.run()) as task:
        await path.caught_up(ingest)
        task.cancel()
        held.set()
    before = path.current()

    async with path.running(path.ingest().run()):
        after = await published(path, [IVF_SQ8])

    assert IVF_SQ8 not in kinds(before)
    assert contents_of(path.files(), after) == contents_of(path.files(), before)


async def test_a_merge_for_which_there_is_no_room_is_tried_again(
    path: WritePath, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "RETRY_SECONDS", 0.0)
    await path.upsert(*documents(0, SEALED_FROM))
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        failures = path.shared.metrics.merge_failures
        with failing_at(Fuse(1, lambda: StorageFull("no room in this test"))):
            held.set()
            while not failures._value.get():
                await asyncio.sleep(0)
        assert ingest.stall.reason == ""
        manifest = await published(path, [IVF_SQ8])

    assert manifest.documents == SEALED_FROM


async def test_vectors_stay_with_their_documents(path: WritePath, held: threading.Event) -> None:
    words = ["heart", "lung", "cell", "gene"]
    for number in range(SEALED_FROM):
        text = " ".join(words[: number % 4 + 1])
        await path.upsert(Document(id=f"doc-{number}", text=text))

    def vectors(manifest: Manifest) -> dict[str, list[float]]:
        found = {}
        for entry in manifest.segments:
            segment = path.files().open_segment(entry)
            owners = segment.passages["document"].to_pylist()
            for row, vector in zip(owners, segment.vectors.tolist(), strict=True):
                found[segment.ids[row]] = vector
        return found

    ingest = path.ingest()
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        flat = vectors(path.current())
        held.set()
        sealed = vectors(await published(path, [IVF_SQ8]))

    assert sealed.keys() == flat.keys()
    for name, vector in flat.items():
        # Half precision: 11 bits.
        assert np.allclose(sealed[name], vector, atol=2**-11)
