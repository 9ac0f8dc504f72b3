"""One shard's write path: what it publishes, and what it does when things fail."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import shutil
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from core import fsops
from core.analysis import ENGLISH_ANALYZER
from core.documents import Document
from core.errors import Fenced, StorageFull
from core.lexical import LexicalReader
from core.lexical_index import META
from core.manifest import Manifest
from core.ranking_wish import MIN_MAX, OPEN, FusionWish, RankingWish, RerankWish
from core.segment import SPARSE, VECTORS
from indexer import changes, heads
from indexer.lexical_part import LexicalPart
from indexer.ownership import CRASHES_ALONE, Ownership
from indexer.segment_part import SegmentPart
from indexer.stall import Stall
from indexer.tables import change, shard_head, suspect
from tests.fakes.write_path import (
    Crash,
    FakeEncoders,
    Fuse,
    WritePath,
    contents_of,
    failing_at,
    terms_of,
    weights_of,
)

RANKING = RankingWish(FusionWish(MIN_MAX, k=20), RerankWish(enabled=False), window=50)


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[WritePath]:
    path = await WritePath.create(tmp_path)
    yield path
    await path.close()


@pytest.fixture
async def weighed(tmp_path: Path) -> AsyncIterator[WritePath]:
    """A collection with a learned-sparse leg."""
    path = await WritePath.create(tmp_path, sparse=True)
    yield path
    await path.close()


def document(id: str, text: str = "heart and lung") -> Document:
    return Document(id=id, title="on", text=text)


def many(count: int, text: str = "heart and lung") -> list[Document]:
    return [document(f"doc-{number:03}", text) for number in range(count)]


def encoders(path: WritePath) -> FakeEncoders:
    assert isinstance(path.shared.encoders, FakeEncoders)
    return path.shared.encoders


def lexical_ids(path: WritePath, directory: Path, query: str) -> int:
    """How many documents the published lexical index finds."""
    directory.mkdir()
    path.files().materialise(path.current().lexical, directory)
    return len(
        LexicalReader.open(directory).search(ENGLISH_ANALYZER.query_terms(query), 1_000).sequences
    )


async def suspects(path: WritePath) -> list[tuple[str, int, bool, str]]:
    chosen = select(suspect.c.id, suspect.c.attempts, suspect.c.quarantined, suspect.c.reason)
    return await path.shared.database.read(
        lambda connection: [tuple(row) for row in connection.execute(chosen.order_by(suspect.c.id))]
    )


async def ranked_by(path: WritePath, wish: RankingWish) -> Manifest:
    """The current manifest, once it has these search defaults."""
    while path.current().search_defaults != wish:
        await asyncio.sleep(0)
    return path.current()


async def test_a_new_collection_gets_an_empty_generation_at_once(path: WritePath) -> None:
    await path.index()

    manifest = path.current()
    assert (manifest.generation, manifest.sequence, manifest.documents) == (1, 0, 0)
    assert contents_of(path.files(), manifest) == {}


async def test_documents_are_published_in_both_legs(path: WritePath, tmp_path: Path) -> None:
    await path.upsert(*many(5))
    await path.delete("doc-001")
    await path.index()

    manifest = path.current()
    assert set(contents_of(path.files(), manifest)) == {"doc-000", "doc-002", "doc-003", "doc-004"}
    assert manifest.passages == 4
    assert lexical_ids(path, tmp_path / "lexical", "lung") == 4


async def test_a_replaced_document_is_found_by_its_new_text_only(
    path: WritePath, tmp_path: Path
) -> None:
    await path.upsert(document("a", "heart"), document("b", "heart"))
    await path.index()
    await path.upsert(document("a", "kidney"))
    await path.index()

    assert contents_of(path.files(), path.current()) == {"a": 2, "b": 1}
    assert lexical_ids(path, tmp_path / "old", "heart") == 1
    assert lexical_ids(path, tmp_path / "new", "kidney") == 1


async def test_a_long_document_has_several_passages(path: WritePath) -> None:
    await path.upsert(document("a", "heart lung cell gene " * 50))
    await path.index()

    manifest = path.current()
    assert manifest.documents == 1
    assert manifest.passages > 1


async def test_many_single_writes_leave_few_segments(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        for number in range(30):
            receipt = await path.upsert(document(f"doc-{number}"))
            ingest.wake(receipt.position.sequences[0])
            await path.caught_up(ingest)

    manifest = path.current()
    assert manifest.documents == 30
    assert len(manifest.segments) < path.shared.config.merge_fanout


async def test_a_restart_goes_on_from_the_published_generation(path: WritePath) -> None:
    await path.upsert(*many(3))
    await path.index()
    embedded = encoders(path).texts
    await path.upsert(document("new"))
    await path.index()

    assert set(contents_of(path.files(), path.current())) == {
        "doc-000",
        "doc-001",
        "doc-002",
        "new",
    }
    assert encoders(path).texts == embedded + 1


async def test_every_owner_has_a_higher_epoch(path: WritePath) -> None:
    await path.index()
    first = path.current()
    await path.upsert(document("a"))
    await path.index()

    assert path.current().order > first.order
    assert path.current().epoch > first.epoch


async def test_a_store_restored_from_a_backup_still_gets_a_higher_epoch(path: WritePath) -> None:
    await path.index()
    await path.upsert(document("a"))
    await path.index()
    before = path.current()
    older = update(shard_head).values(epoch=0)
    await path.shared.database.write(lambda connection: connection.execute(older) and None)
    await path.upsert(document("b"))
    await path.index()

    assert path.current().order > before.order


async def test_of_two_owners_only_the_newer_publishes(path: WritePath) -> None:
    await path.index()
    stale = await _own(path)
    owner = await _own(path)
    manifest = path.current()

    await owner.publish(_next(manifest, owner.epoch))

    with pytest.raises(Fenced):
        await stale.publish(_next(manifest, stale.epoch))
    assert (await path.head()).epoch == owner.epoch


async def test_an_owner_that_was_overtaken_stops_and_publishes_nothing(path: WritePath) -> None:
    await path.index()
    before = path.current()
    await path.upsert(document("a"))
    encoders(path).may_answer.clear()
    ingest = path.ingest()
    async with path.running(ingest.run()) as task, path.running(ingest.until(1)) as published:
        await encoders(path).embedding.wait()
        await _own(path)
        encoders(path).may_answer.set()
        await asyncio.wait({task, published}, return_when=asyncio.FIRST_COMPLETED)

        assert task.done()
        with pytest.raises(Fenced):
            task.result()

    assert path.current() == before
    assert (await path.head()).manifest == before.name
    assert "no longer ours" in ingest.stall.reason


async def _own(path: WritePath) -> Ownership:
    return await Ownership.take(path.shared.database, path.record, 0, owner="other", above_epoch=0)


def _next(manifest: Manifest, epoch: int) -> Manifest:
    return replace(manifest, epoch=epoch, generation=manifest.generation + 1)


async def test_a_crash_at_any_write_leaves_the_old_generation_or_the_new(tmp_path: Path) -> None:
    before = await WritePath.create(tmp_path / "before")
    await before.upsert(*many(3))
    await before.index()
    await before.upsert(document("doc-000", "kidney"), document("new"))
    await before.delete("doc-001")
    await before.close()
    outcomes = set()
    at = 0
    while "finished" not in outcomes:
        at += 1
        shutil.copytree(tmp_path / "before", tmp_path / str(at))
        path = await WritePath.create(tmp_path / str(at))
        with failing_at(Fuse(at)) as fuse:
            try:
                await path.index()
            except Crash:
                assert fuse.blown
        if not fuse.blown:
            outcomes.add("finished")
        outcomes.add(_outcome(path))

        await path.index()

        assert contents_of(path.files(), path.current()) == {"doc-000": 2, "doc-002": 1, "new": 1}
        await path.close()

    assert outcomes == {"finished", "old", "new"}
    assert at > 20


def _outcome(path: WritePath) -> str:
    """Which generation readers see, whole."""
    found = contents_of(path.files(), path.current())
    known: dict[tuple[tuple[str, int], ...], str] = {
        (("doc-000", 1), ("doc-001", 1), ("doc-002", 1)): "old",
        (("doc-000", 2), ("doc-002", 1), ("new", 1)): "new",
    }
    return known[tuple(sorted(found.items()))]


async def test_a_crash_between_commit_and_current_is_made_good(path: WritePath) -> None:
    await path.index()
    await path.upsert(document("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.index_store.ShardStore.set_current", _die)
        with pytest.raises(Crash):
            await path.index()
    assert path.current().documents == 0

    await path.index()

    assert contents_of(path.files(), path.current()) == {"a": 1}
    assert (await path.head()).manifest == path.current().name


def _die(*_: object, **__: object) -> None:
    raise Crash


async def test_a_full_disk_stalls_the_shard_until_there_is_space(path: WritePath) -> None:
    await path.upsert(document("a"))
    await path.index()
    ingest = path.ingest()
    full = Fuse(1, lambda: StorageFull("no space left in this test"))
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        with failing_at(full):
            receipt = await path.upsert(document("b"))
            ingest.wake(receipt.position.sequences[0])
            while not ingest.stall.reason:
                await asyncio.sleep(0)
            assert "no space left" in ingest.stall.reason
            assert contents_of(path.files(), path.current()) == {"a": 1}
        await path.caught_up(ingest)
        assert contents_of(path.files(), path.current()) == {"a": 1, "b": 1}
        while ingest.stall.reason:
            await asyncio.sleep(0)


@pytest.mark.parametrize("half", [SegmentPart, LexicalPart])
async def test_a_failed_attempt_holds_on_to_nothing(
    path: WritePath, monkeypatch: pytest.MonkeyPatch, half: type
) -> None:
    """What it was writing is removed, but takes space as long as anybody has it open."""
    failed: list[weakref.ref[object]] = []
    waits = asyncio.Event()

    def fail(part: object, batch: object) -> None:
        failed.append(weakref.ref(part))
        raise StorageFull("no space left in this test")

    async def wait_for_ever(stall: Stall, reason: str) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(half, "apply", fail)
    monkeypatch.setattr(Stall, "wait", wait_for_ever)
    ingest = path.ingest()
    await path.upsert(document("a"))
    gc.disable()
    try:
        async with path.running(ingest.run()):
            await waits.wait()
            path.shared.executor.shutdown()  # a thread tells its failure before it lets go of it
            assert failed[0]() is None
    finally:
        gc.enable()


async def test_documents_are_accepted_while_triton_is_down_and_indexed_later(
    path: WritePath,
) -> None:
    ingest = path.ingest()
    encoders(path).down = True
    async with path.running(ingest.run()):
        receipt = await path.upsert(*many(3))
        ingest.wake(receipt.position.sequences[0])
        while not ingest.stall.reason:
            await asyncio.sleep(0)
        assert "Triton is down" in ingest.stall.reason
        encoders(path).down = False
        await path.caught_up(ingest)

    assert len(contents_of(path.files(), path.current())) == 3
    assert ingest.stall.reason == ""
    assert await suspects(path) == []


async def test_a_poison_document_is_set_aside_and_the_others_are_indexed(
    path: WritePath, tmp_path: Path
) -> None:
    encoders(path).poison = "arsenic"
    await path.upsert(*many(40), document("bad", "heart arsenic"))
    await path.index()

    manifest = path.current()
    assert len(contents_of(path.files(), manifest)) == 41
    assert manifest.passages == 40
    assert lexical_ids(path, tmp_path / "lexical", "arsenic") == 1
    assert await suspects(path) == [("bad", 4, True, "the model failed in this test")]


async def test_a_restart_does_not_try_a_quarantined_document_again(path: WritePath) -> None:
    encoders(path).poison = "arsenic"
    await path.upsert(document("bad", "arsenic"))
    await path.index()
    served = await suspects(path)
    await path.upsert(document("good"))
    await path.index()
    await _forge_history(path)
    encoders(path).poison = ""

    await rebuilt(path)

    assert path.current().passages == 1
    assert await suspects(path) == served


async def test_a_newer_version_of_a_quarantined_document_is_tried_afresh(path: WritePath) -> None:
    encoders(path).poison = "arsenic"
    await path.upsert(document("bad", "arsenic"))
    await path.index()
    assert (await quarantined(path)) == 1

    await path.upsert(document("bad", "harmless now"))
    await path.index()

    assert path.current().passages == 1
    assert (await quarantined(path)) == 0


async def quarantined(path: WritePath) -> int:
    uid = path.record.uid
    rows = await path.shared.database.read(lambda connection: heads.progress(connection, [uid]))
    return rows[0].quarantined


async def test_a_document_without_tokens_is_set_aside_at_once(path: WritePath) -> None:
    await path.upsert(Document(id="empty", text="\u200b"), document("good"))
    await path.index()

    assert path.current().documents == 2
    assert path.current().passages == 1
    ((id, _, set_aside, reason),) = await suspects(path)
    assert (id, set_aside, reason) == ("empty", True, "the encoder's tokenizer finds nothing in it")


async def test_a_broken_model_sets_nothing_aside(path: WritePath) -> None:
    ingest = path.ingest()
    encoders(path).broken = True
    async with path.running(ingest.run()):
        receipt = await path.upsert(*many(3))
        ingest.wake(receipt.position.sequences[0])
        while not ingest.stall.reason:
            await asyncio.sleep(0)
        encoders(path).broken = False
        await path.caught_up(ingest)

    assert path.current().passages == 3
    assert await suspects(path) == []


async def test_a_document_that_kills_the_indexer_again_and_again_is_set_aside(
    path: WritePath,
) -> None:
    await path.upsert(document("deadly"), document("good"))
    for _ in range(CRASHES_ALONE):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("indexer.preparing.Preparer.prepare", _die)
            with pytest.raises(Crash):
                await path.index()

    await path.index()

    assert path.current().documents == 2
    assert path.current().passages == 1
    assert [(id, aside) for id, _, aside, _ in await suspects(path)] == [("deadly", True)]


async def test_stops_in_good_order_are_not_counted_as_crashes(path: WritePath) -> None:
    encoders(path).down = True
    await path.upsert(document("a"))
    for _ in range(CRASHES_ALONE + 1):
        encoders(path).asked.clear()
        async with path.running(path.ingest().run_once()):
            await encoders(path).asked.wait()

    assert (await path.head()).attempts == 0


async def test_an_index_is_built_again_if_history_was_rewritten(path: WritePath) -> None:
    await path.upsert(*many(5))
    await path.index()
    await _forge_history(path)

    await rebuilt(path)

    assert len(contents_of(path.files(), path.current())) == 5
    assert path.current().chain == (await path.changes())[-1].chain


async def _forge_history(path: WritePath) -> None:
    """Makes the last change another one, as a fail-over that lost and reused its number would."""
    *before, last = await path.changes()
    chain = before[-1].chain if before else changes.first_chain(path.record.uid, 0)
    forged = replace(last, text="forged")
    forged = replace(forged, chain=changes.chain_after(chain, forged))
    row = update(change).where(change.c.sequence == last.sequence)
    statements = (
        row.values(text=forged.text, chain=forged.chain),
        update(shard_head).values(chain=forged.chain),
    )

    def forge(connection: Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    await path.shared.database.write(forge)


async def rebuilt(path: WritePath) -> None:
    """Runs the write path until the index covers the present history."""
    async with path.running(path.ingest().run()):
        while path.current().chain != (await path.head()).chain:
            await asyncio.sleep(0)


async def test_the_old_generation_serves_until_the_new_index_has_caught_up(
    path: WritePath,
) -> None:
    await path.upsert(*(document(f"doc-{number}") for number in range(200)))
    await path.index()
    before = path.files().manifests()
    await _forge_history(path)

    await rebuilt(path)

    newer = [m for m in path.files().manifests() if m.order > before[-1].order]
    assert [manifest.documents for manifest in newer] == [200]


@pytest.mark.parametrize("name", [VECTORS, SPARSE, META])
async def test_an_index_with_a_flipped_bit_is_built_again(weighed: WritePath, name: str) -> None:
    path = weighed
    await path.upsert(*many(5))
    await path.index()
    manifest = path.current()
    before = weights_of(path.files(), manifest)
    (file,) = (file for file in manifest.files() if file.name == name)
    damaged = path.files().path(file)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    fresh = await WritePath.create(path.shared.config.model_directory, sparse=True)
    async with fresh.running(fresh.ingest().run()):
        while fresh.current().generation == manifest.generation:
            await asyncio.sleep(0)

    assert len(contents_of(fresh.files(), fresh.current())) == 5
    assert weights_of(fresh.files(), fresh.current()) == before
    await fresh.close()


async def test_a_lost_index_is_built_again(path: WritePath) -> None:
    await path.upsert(*many(5))
    await path.index()
    fsops.remove_tree(path.shared.config.index_directory / path.record.uid)

    fresh = await WritePath.create(path.shared.config.model_directory)
    async with fresh.running(fresh.ingest().run()):
        while fresh.files().read_current() is None:
            await asyncio.sleep(0)

    assert len(contents_of(fresh.files(), fresh.current())) == 5
    await fresh.close()


async def test_a_model_with_another_fingerprint_embeds_nothing(path: WritePath) -> None:
    wrong = dataclasses.replace(encoders(path).info, fingerprint="other")
    encoders(path).info = wrong
    ingest = path.ingest()
    async with path.running(ingest.run()):
        receipt = await path.upsert(document("a"))
        ingest.wake(receipt.position.sequences[0])
        while not ingest.stall.reason:
            await asyncio.sleep(0)

    assert "fingerprint" in ingest.stall.reason
    assert encoders(path).texts == 0


async def test_terms_are_published_beside_the_vectors(weighed: WritePath) -> None:
    await weighed.upsert(document("a", "heart"), document("b", "lung cell"))
    await weighed.index()
    await weighed.upsert(document("a", "gene"))
    await weighed.index()

    manifest = weighed.current()
    assert manifest.sparse_encoder is not None
    assert manifest.sparse_encoder.fingerprint == "fake-sparse"
    found = weights_of(weighed.files(), manifest)
    wanted = {"a": "on gene", "b": "on lung cell"}
    assert {id: [sorted(terms) for terms in own] for id, own in found.items()} == {
        id: [sorted(terms_of(encoders(weighed).tokenizer.encode(text).ids).ids.tolist())]
        for id, text in wanted.items()
    }


async def test_a_document_that_only_the_sparse_encoder_fails_on_is_set_aside(
    weighed: WritePath,
) -> None:
    encoders(weighed).sparse.poison = "arsenic"
    await weighed.upsert(*many(5), document("bad", "arsenic"))
    await weighed.index()

    manifest = weighed.current()
    assert (manifest.documents, manifest.passages) == (6, 5)
    found = weights_of(weighed.files(), manifest)
    assert found["bad"] == []
    assert all(len(found[f"doc-{number:03}"]) == 1 for number in range(5))
    assert await suspects(weighed) == [("bad", 4, True, "the sparse model failed in this test")]


async def test_a_prompt_alone_is_not_embedded(path: WritePath) -> None:
    encoders(path).info = replace(encoders(path).info, document_prompt="passage: ")
    await path.upsert(Document(id="empty", text="\u200b"), Document(id="title", title="heart"))
    await path.index()

    assert path.current().passages == 1
    ((id, _, set_aside, reason),) = await suspects(path)
    assert (id, set_aside, reason) == ("empty", True, "the encoder's tokenizer finds nothing in it")


async def test_a_prompt_is_embedded_whole_before_every_passage(path: WritePath) -> None:
    encoder = encoders(path)
    # Longer than what a title may take: half of what the encoder reads.
    prompt = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h: "
    encoder.info = replace(encoder.info, document_prompt=prompt)
    await path.upsert(Document(id="long", title="heart", text="lung " * 60))
    await path.index()

    (entry,) = path.current().segments
    segment = path.files().open_segment(entry)
    wanted = encoder.tokenizer.encode(prompt).ids.tolist()
    assert len(segment.passages) > 1
    for ids in segment.passages["token_ids"].to_pylist():
        assert ids[: len(wanted)] == wanted
        assert len(wanted) < len(ids) <= encoder.info.max_length - 2


async def test_new_search_defaults_are_published_with_the_same_files(path: WritePath) -> None:
    await path.upsert(*many(3))
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        before = path.current()
        await path.rank_by(RANKING)
        ingest.rank_by(RANKING)
        after = await ranked_by(path, RANKING)
        await path.rank_by(OPEN)
        ingest.rank_by(OPEN)
        again = await ranked_by(path, OPEN)

    assert (before.search_defaults, before.sequence) == (OPEN, 3)
    assert after.generation == before.generation + 1
    assert after == replace(
        before,
        generation=after.generation,
        previous=after.previous,
        created_at=after.created_at,
        search_defaults=RANKING,
    )
    assert again.generation == after.generation + 1
    assert contents_of(path.files(), again) == contents_of(path.files(), before)


async def test_a_generation_with_documents_has_the_search_defaults_too(path: WritePath) -> None:
    ingest = path.ingest()
    async with path.running(ingest.run()):
        await path.caught_up(ingest)
        await path.rank_by(RANKING)
        ingest.rank_by(RANKING)
        await ranked_by(path, RANKING)
        receipt = await path.upsert(*many(3))
        ingest.wake(receipt.position.sequences[0])
        await path.caught_up(ingest)

    assert (path.current().documents, path.current().search_defaults) == (3, RANKING)


async def test_search_defaults_are_published_while_triton_is_down(path: WritePath) -> None:
    await path.upsert(*many(2))
    await path.index()
    encoders(path).down = True
    ingest = path.ingest()
    async with path.running(ingest.run()):
        receipt = await path.upsert(document("late"))
        ingest.wake(receipt.position.sequences[0])
        while not ingest.stall.reason:
            await asyncio.sleep(0)
        await path.rank_by(RANKING)
        ingest.rank_by(RANKING)
        ranked = await ranked_by(path, RANKING)
        assert "Triton is down" in ingest.stall.reason
        encoders(path).down = False
        await path.caught_up(ingest)

    assert ranked.documents == 2
    assert (path.current().documents, path.current().search_defaults) == (3, RANKING)


async def test_a_crash_between_storing_and_publishing_search_defaults_is_made_good(
    tmp_path: Path,
) -> None:
    path = await WritePath.create(tmp_path)
    await path.upsert(*many(3))
    await path.index()
    await path.rank_by(RANKING)
    await path.close()
    assert path.current().search_defaults == OPEN

    fresh = await WritePath.create(tmp_path)
    await fresh.index()
    ranked = fresh.current()

    assert ranked.search_defaults == RANKING
    assert contents_of(fresh.files(), ranked) == contents_of(path.files(), path.current())
    assert (await fresh.head()).manifest == ranked.name
    await fresh.close()


async def test_a_crash_at_any_write_leaves_the_old_search_defaults_or_the_new(
    tmp_path: Path,
) -> None:
    before = await WritePath.create(tmp_path / "before")
    await before.upsert(*many(2))
    await before.index()
    await before.rank_by(RANKING)
    await before.close()
    seen = set()
    at = 0
    is_through = False
    while not is_through:
        at += 1
        shutil.copytree(tmp_path / "before", tmp_path / str(at))
        path = await WritePath.create(tmp_path / str(at))
        with failing_at(Fuse(at)) as fuse:
            async with path.running(path.ingest().run_once()) as task:
                while not task.done() and path.current().search_defaults == OPEN:
                    await asyncio.sleep(0)
                is_through = not task.done()
        assert is_through or fuse.blown
        seen.add(path.current().search_defaults)

        async with path.running(path.ingest().run()):
            ranked = await ranked_by(path, RANKING)

        assert ranked.documents == 2
        await path.close()

    assert seen == {OPEN, RANKING}


async def test_an_index_that_is_built_again_has_the_search_defaults(path: WritePath) -> None:
    await path.upsert(*many(3))
    await path.index()
    await path.rank_by(RANKING)
    fsops.remove_tree(path.shared.config.index_directory / path.record.uid)

    fresh = await WritePath.create(path.shared.config.model_directory)
    async with fresh.running(fresh.ingest().run()):
        while fresh.files().read_current() is None:
            await asyncio.sleep(0)

    assert (fresh.current().documents, fresh.current().search_defaults) == (3, RANKING)
    await fresh.close()
