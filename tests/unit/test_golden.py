"""What earlier versions published must always open and answer the same."""

import math
from pathlib import Path

import numpy as np
import pytest

from core.bm25 import Statistics
from core.filters.parsing import parse
from core.filters.schema import BOOL, NUMBER, UNKNOWN, Attribute, Schema
from core.index_store import IndexStore
from core.query_syntax import Constraint
from core.ranking_wish import OPEN, Z_SCORE, FusionWish, RankingWish
from core.vectors.kinds import IVF_SQ8
from shard.fetched import Terms
from shard.limits import Limits
from shard.snapshot import Snapshot
from tests.fakes.publisher import WRITTEN, embed, token_of

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=[1, 2, 3, 4])
def snapshot(tmp_path: Path, request: pytest.FixtureRequest) -> Snapshot:
    """Each format, through the same path as in a shard."""
    index = IndexStore.open(GOLDEN / f"format-{request.param}")
    (entry,) = index.collections()
    store = index.shard(entry.uid, 0)
    manifest = store.read_current()
    assert manifest is not None
    assert manifest.format == request.param
    return Snapshot.open(store, manifest, tmp_path / "view", None)


def test_its_manifest_says_what_it_holds(snapshot: Snapshot) -> None:
    manifest = snapshot.manifest

    assert (manifest.generation, manifest.sequence) == (2, 6)
    assert (manifest.documents, manifest.passages) == (3, 3)
    assert [segment.dead_documents for segment in manifest.segments] == [2, 0]


def test_its_dense_leg_answers(snapshot: Snapshot) -> None:
    found = snapshot.search_dense(embed("Galley slow and heavy"), 10)

    assert [candidate.id for candidate in found] == ["galley", "raft"]
    # By inner product in format 1, by distance from format 2 on: nothing is nearer than 0.
    assert found[0].score == pytest.approx(1.0 if snapshot.manifest.format == 1 else 0.0)


def test_it_says_how_its_vectors_are_searched(snapshot: Snapshot) -> None:
    first, second = snapshot.manifest.segments

    assert first.index is None
    assert (second.index is None) == (snapshot.manifest.format < 4)
    if second.index is not None:
        assert (second.index.kind, second.index.recall) == (IVF_SQ8, 1.0)
        assert snapshot.segments[1].index.kind.name == IVF_SQ8
        assert snapshot.segments[1].index.effort == second.index.effort >= 1


def test_its_manifest_is_written_as_it_was_read(snapshot: Snapshot) -> None:
    manifest = snapshot.manifest
    path = GOLDEN / f"format-{manifest.format}" / manifest.uid / "0" / "manifests" / manifest.name

    assert manifest.to_bytes() == path.read_bytes()


def test_its_sparse_leg_answers(snapshot: Snapshot) -> None:
    words = ["slow", "reeds", "logs"]
    query = np.array([token_of(word) for word in words], np.int32)
    weights = np.array([1.0, 3.0, 9.0], np.float32)
    found = snapshot.search_sparse(Terms(query, weights), 10)

    if snapshot.manifest.format == 1:
        assert not found
        return
    # Each word stands once in its passage and weighs log(1 + 1).
    assert [each.id for each in found] == ["raft", "galley"]
    assert [each.score for each in found] == pytest.approx([3 * math.log(2), math.log(2)])


def test_it_says_how_searches_rank(snapshot: Snapshot) -> None:
    ranked = RankingWish(FusionWish(method=Z_SCORE, k=7.0), window=50)

    assert snapshot.manifest.search_defaults == (ranked if snapshot.manifest.format > 2 else OPEN)


def test_its_words_are_counted(snapshot: Snapshot) -> None:
    # "Galley", "rowed by oarsmen slow and heavy"; "Floß", "made of reeds"; "Brigantine".
    length = (1 + 6) + (1 + 3) + 1

    assert snapshot.count_terms("reeds rowed rafts") == Statistics(
        3, length, {"raft": 0, "reed": 1, "row": 1}
    )


def test_its_lexical_leg_answers(snapshot: Snapshot) -> None:
    for query, wanted in (
        ("oarsman oarsmen", ["galley"]),
        ("floss brigantines", ["raft", "title-only"]),
        ("logs paddled", []),
    ):
        found = snapshot.search_lexical(query, 10)
        assert sorted(candidate.id for candidate in found) == wanted


def test_its_attributes_are_filtered_by(snapshot: Snapshot) -> None:
    wanted = 'n > 1 AND flag AND tags : y AND s = "ä" AND when > 2026-01-01T00:00:00Z'
    for text, ids in ((wanted, ["raft"]), ("flag : *", ["raft"]), ("NOT flag", ["galley"])):
        found = snapshot.search_dense(embed("reeds"), 10, Limits(parse(text)))
        assert [candidate.id for candidate in found] == ids


def test_it_says_what_attributes_there_are(snapshot: Snapshot) -> None:
    known = Schema((Attribute("n", NUMBER),), seen=(Attribute("flag", BOOL),))

    assert snapshot.manifest.schema == (known if snapshot.manifest.format > 3 else UNKNOWN)


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


def test_its_phrases_are_found(snapshot: Snapshot) -> None:
    """Formats 1 to 3 do not know where words stand: texts are read."""
    limits = Limits(constraint=Constraint(("made of reed",), ("reeds made",)))

    assert [each.id for each in snapshot.search_lexical("reeds", 10, None, limits)] == ["raft"]
    other = Limits(constraint=Constraint(("of made",)))
    assert not snapshot.search_lexical("reeds", 10, None, other)
