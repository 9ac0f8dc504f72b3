"""What earlier versions published must always open and answer the same."""

from pathlib import Path

import pytest

from core.index_store import IndexStore
from shard.snapshot import Snapshot
from tests.fakes.publisher import WRITTEN, embed

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Format 1, through the same path as in a shard."""
    index = IndexStore.open(GOLDEN / "format-1")
    (entry,) = index.collections()
    store = index.shard(entry.uid, 0)
    manifest = store.read_current()
    assert manifest is not None
    return Snapshot.open(store, manifest, tmp_path / "view", None)


def test_its_manifest_says_what_it_holds(snapshot: Snapshot) -> None:
    manifest = snapshot.manifest

    assert (manifest.format, manifest.generation, manifest.sequence) == (1, 2, 6)
    assert (manifest.documents, manifest.passages) == (3, 3)
    assert [segment.dead_documents for segment in manifest.segments] == [2, 0]


def test_its_dense_leg_answers(snapshot: Snapshot) -> None:
    found = snapshot.search_dense(embed("Galley slow and heavy"), 10)

    assert [candidate.id for candidate in found] == ["galley", "raft"]
    assert found[0].score == pytest.approx(1.0)


def test_its_lexical_leg_answers(snapshot: Snapshot) -> None:
    for query, wanted in (
        ("oarsman oarsmen", ["galley"]),
        ("floss brigantines", ["raft", "title-only"]),
        ("logs paddled", []),
    ):
        found = snapshot.search_lexical(query, 10)
        assert sorted(candidate.id for candidate in found) == wanted


def test_its_documents_are_read(snapshot: Snapshot) -> None:
    raft, title_only = snapshot.fetch(["raft", "kayak", "title-only"], None)

    assert (raft.document.title, raft.document.text) == ("Floß", "made of reeds ☃")
    assert (raft.document.version, raft.document.update_time) == (2, WRITTEN)
    assert raft.document.attributes == {
        "n": 1.5,
        "flag": True,
        "when": WRITTEN,
        "tags": ("x", "y"),
        "s": "ä",
    }
    assert raft.passage is not None
    assert (raft.passage.start_byte, raft.passage.end_byte) == (0, len("made of reeds ☃".encode()))
    assert len(raft.passage.token_ids) == 4
    assert title_only.passage is None
