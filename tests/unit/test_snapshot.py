"""A generation answers both legs and reads its documents, whatever its segments look like."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import CorruptFile, ModelMismatch
from core.index_store import IndexStore
from core.manifest import Manifest, SegmentEntry
from core.segment import Segment
from core.similarity import SIMILARITIES
from shard.fetched import Terms
from shard.ranked import Candidate
from shard.snapshot import Snapshot
from tests.fakes.publisher import Publisher, embed, token_of, weigh


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "index")


def opened(
    publisher: Publisher, directory: Path, manifest: Manifest, previous: Snapshot | None = None
) -> Snapshot:
    return Snapshot.open(publisher.store, manifest, directory / manifest.name, previous)


def _scores(found: Iterable[Candidate]) -> list[tuple[str, float]]:
    return [(candidate.id, candidate.score) for candidate in found]


def dense(snapshot: Snapshot, query: str, limit: int = 10) -> list[str]:
    return [candidate.id for candidate in snapshot.search_dense(embed(query), limit)]


def lexical(snapshot: Snapshot, query: str, limit: int = 10) -> list[str]:
    return [candidate.id for candidate in snapshot.search_lexical(query, limit)]


def test_both_legs_find_documents_over_segments(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("galley", "rowed by oarsmen")
    publisher.publish()
    publisher.put("raft", "made of logs")
    snapshot = opened(publisher, tmp_path, publisher.publish())

    assert dense(snapshot, "oarsmen", 1) == ["galley"]
    assert dense(snapshot, "logs", 1) == ["raft"]
    assert sorted(lexical(snapshot, "oarsmen logs")) == ["galley", "raft"]


def test_scores_are_the_legs_own(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("galley", "rowed by oarsmen")
    snapshot = opened(publisher, tmp_path, publisher.publish())

    (found,) = snapshot.search_dense(embed("rowed by oarsmen"), 1)

    assert found.score == pytest.approx(1.0)


def test_ties_break_by_id_also_at_the_cut_and_over_segments(
    publisher: Publisher, tmp_path: Path
) -> None:
    ids = [f"d{number:02}" for number in range(40)]
    random.Random(1).shuffle(ids)
    for number, document_id in enumerate(ids):
        publisher.put(document_id, "all the same")
        if number % 10 == 9:
            manifest = publisher.publish()
    snapshot = opened(publisher, tmp_path, manifest)

    assert dense(snapshot, "same", 7) == sorted(ids)[:7]
    assert lexical(snapshot, "same", 7) == sorted(ids)[:7]


def test_a_replaced_document_is_found_in_its_new_form_only(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.put("a", "galley")
    before = opened(publisher, tmp_path, publisher.publish())
    publisher.put("a", "raft")
    after = opened(publisher, tmp_path, publisher.publish(), before)

    assert lexical(after, "galley") == []
    assert lexical(after, "raft") == ["a"]
    assert [item.document.text for item in after.fetch(["a"], None)] == ["raft"]
    assert [item.document.text for item in before.fetch(["a"], None)] == ["galley"]
    assert lexical(before, "galley") == ["a"]


def test_open_segments_are_shared_with_the_generation_before(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.put("a", "galley")
    before = opened(publisher, tmp_path, publisher.publish())
    publisher.put("b", "raft")
    publisher.delete("a")
    manifest = publisher.publish()
    newly: list[str] = []
    open_segment = publisher.store.open_segment

    def noting(entry: SegmentEntry) -> Segment:
        newly.append(entry.id)
        return open_segment(entry)

    monkeypatch.setattr(publisher.store, "open_segment", noting)

    after = opened(publisher, tmp_path, manifest, before)

    assert newly == [manifest.segments[1].id]
    assert dense(after, "galley") == ["b"]
    assert dense(before, "galley") == ["a"]


def test_documents_are_fetched_in_the_order_asked_for(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("a", "first line\nsecond line", title="T", attributes={"n": 1.0})
    publisher.publish()
    publisher.put("b", "other")
    snapshot = opened(publisher, tmp_path, publisher.publish())

    fetched = snapshot.fetch(["b", "absent", "a"], embed("T second line"))

    assert [item.document for item in fetched] == [
        publisher.documents["b"].document,
        publisher.documents["a"].document,
    ]
    passage = fetched[1].passage
    assert passage is not None
    assert (passage.start_byte, passage.end_byte) == (
        len("first line\n"),
        len("first line\nsecond line"),
    )
    assert len(passage.token_ids) == 2


def test_a_document_with_a_title_only_is_found_by_the_lexical_leg(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.put("a", title="Galley")
    snapshot = opened(publisher, tmp_path, publisher.publish())

    assert lexical(snapshot, "galley") == ["a"]
    assert dense(snapshot, "galley") == []
    assert snapshot.fetch(["a"], embed("galley"))[0].passage is None


def test_a_generation_without_documents_finds_nothing(publisher: Publisher, tmp_path: Path) -> None:
    snapshot = opened(publisher, tmp_path, publisher.publish())

    assert dense(snapshot, "ship") == []
    assert lexical(snapshot, "ship") == []
    assert snapshot.fetch(["a"], None) == []


def test_legs_that_disagree_are_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("a", "galley")
    with_one = publisher.publish()
    publisher.put("b", "raft")
    with_two = publisher.publish()
    with pytest.raises(CorruptFile, match="its lexical index has 1"):
        opened(publisher, tmp_path, replace(with_two, lexical=with_one.lexical))


def test_vectors_of_another_dimension_are_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("a", "galley")
    manifest = publisher.publish()
    other = replace(manifest, encoder=replace(manifest.encoder, dimension=32))

    with pytest.raises(ModelMismatch):
        opened(publisher, tmp_path, other)


def test_a_refused_generation_leaves_nothing_behind(publisher: Publisher, tmp_path: Path) -> None:
    publisher.put("a", "galley")
    manifest = publisher.publish()
    idx = next(entry for entry in manifest.lexical if entry.name.endswith(".idx"))
    publisher.store.path(idx).unlink()
    store = IndexStore.open(tmp_path / "index").shard("uid-1", 0)

    with pytest.raises(CorruptFile):
        Snapshot.open(store, manifest, tmp_path / "view", None)

    assert not (tmp_path / "view").exists()


def test_a_closed_generation_answers_who_still_holds_it(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.put("a", "galley")
    snapshot = opened(publisher, tmp_path, publisher.publish())

    snapshot.close()

    assert not (tmp_path / snapshot.manifest.name).exists()
    assert lexical(snapshot, "galley") == ["a"]
    assert dense(snapshot, "galley") == ["a"]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_any_history_answers_like_one_written_at_once(tmp_path: Path, similarity: str) -> None:
    random_ = random.Random(SIMILARITIES.index(similarity))
    words = ["oar", "sail", "mast", "keel", "rope", "anchor"]
    grown = Publisher(tmp_path / "grown", similarity=similarity, sparse=True)
    previous: Snapshot | None = None
    for _ in range(30):
        document_id = f"d{random_.randrange(12)}"
        if document_id in grown.documents and random_.random() < 0.4:
            grown.delete(document_id)
        else:
            lines = [" ".join(random_.choices(words, k=3)) for _ in range(random_.randrange(1, 4))]
            grown.put(document_id, "\n".join(lines))
        if random_.random() < 0.3:
            previous = opened(grown, tmp_path, grown.publish(), previous)
    previous = opened(grown, tmp_path, grown.publish(), previous)
    merged = opened(grown, tmp_path, grown.merge(), previous)
    at_once = Publisher(tmp_path / "at-once", similarity=similarity, sparse=True)
    for document_id in sorted(grown.documents):
        at_once.put(document_id, grown.documents[document_id].document.text)
    (tmp_path / "other").mkdir()
    reference = opened(at_once, tmp_path / "other", at_once.publish())

    for query in ("oar sail", "mast", "keel rope anchor"):
        for limit in (1, 3, 100):
            wanted = _scores(reference.search_dense(embed(query), limit))
            assert _scores(previous.search_dense(embed(query), limit)) == wanted
            assert _scores(merged.search_dense(embed(query), limit)) == wanted
            terms = Terms(*weigh(np.array([token_of(word) for word in query.split()], np.int32)))
            wanted = _scores(reference.search_sparse(terms, limit))
            assert _scores(previous.search_sparse(terms, limit)) == wanted
            assert _scores(merged.search_sparse(terms, limit)) == wanted
        assert set(lexical(merged, query, 100)) == set(lexical(reference, query, 100))
    everything = sorted(grown.documents)
    assert [item.document for item in merged.fetch(everything, None)] == [
        grown.documents[document_id].document for document_id in everything
    ]
    assert np.sum([item.passage is None for item in merged.fetch(everything, None)]) == 0
