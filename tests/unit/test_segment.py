"""A segment finds what was written into it, exactly, and no more than what is alive."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.analysis import ENGLISH_ANALYZER
from core.documents import AttributeValue, Document
from core.errors import CorruptFile, TriremeError
from core.merging import merge_segments
from core.searching import heaviest_documents, nearest_documents
from core.segment import FILES, SPARSE, Segment, pack_dead
from core.segment_tables import StoredDocument, StoredPassage, keys_of
from core.segment_writing import write_segment
from core.similarity import SIMILARITIES
from core.sparse import Postings
from core.wire import document_to_proto
from trireme.v1 import document_pb2

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DIMENSION = 4


def axis(number: int, length: float = 1.0) -> list[float]:
    """A vector along one axis."""
    return [length if n == number else 0.0 for n in range(DIMENSION)]


def write(
    directory: Path,
    vectors: Mapping[str, Sequence[Sequence[float]]],
    first_sequence: int = 1,
    *,
    similarity: str = "dot",
    terms: Sequence[Mapping[int, float]] | None = None,
) -> dict[str, Path]:
    """A segment of documents with one passage per vector, each with its weighted terms."""
    directory.mkdir()
    documents = [
        StoredDocument(first_sequence + n, Document(document_id, "", document_id, {}, 1, WRITTEN))
        for n, document_id in enumerate(vectors)
    ]
    passages = [
        StoredPassage(n, p, p + 1, np.array([n, p], np.int32))
        for n, own in enumerate(vectors.values())
        for p in range(len(own))
    ]
    matrix = np.array([v for own in vectors.values() for v in own], np.float32)
    paths = write_segment(
        directory,
        documents,
        passages,
        matrix.reshape(-1, DIMENSION),
        similarity=similarity,
        postings=Postings.of([query_of(each) for each in terms]) if terms is not None else None,
    )
    return {path.name: path for path in paths}


def query_of(terms: Mapping[int, float]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Terms and weights as arrays."""
    return np.array([*terms], np.int32), np.array([*terms.values()], np.float32)


def kill(segment: Segment, directory: Path, *ids: str) -> Segment:
    """The segment with these documents dead."""
    dead = np.array([name in ids for name in segment.ids])
    (directory / "dead.bits").write_bytes(pack_dead(dead))
    return segment.with_dead(directory / "dead.bits")


def search(segment: Segment, vector: Sequence[float], limit: int) -> list[tuple[str, float]]:
    rows, scores = nearest_documents([segment], np.array(vector, np.float32), limit)
    return list(zip((segment.ids[row] for row in rows), scores, strict=True))


def weigh(
    segments: Sequence[Segment], terms: Mapping[int, float], limit: int = 10
) -> list[tuple[str, float]]:
    ids = [document_id for segment in segments for document_id in segment.ids]
    places, scores = heaviest_documents(segments, *query_of(terms), limit)
    return list(zip((ids[place] for place in places), scores, strict=True))


def test_a_document_counts_by_its_best_passage(tmp_path: Path) -> None:
    segment = Segment.open(
        write(tmp_path / "s", {"a": [axis(0, 0.5), axis(0, 0.75)], "b": [axis(1), axis(0, 0.625)]})
    )

    assert search(segment, axis(0), 10) == [("a", 0.75), ("b", 0.625)]


def test_many_passages_of_one_document_do_not_crowd_out_others(tmp_path: Path) -> None:
    segment = Segment.open(
        write(
            tmp_path / "s", {"long": [axis(0)] * 500, "short": [axis(0, 0.5)], "other": [axis(1)]}
        )
    )

    assert [name for name, _ in search(segment, axis(0), 2)] == ["long", "short"]


def test_every_document_that_ties_with_the_last_is_found(tmp_path: Path) -> None:
    vectors = {f"d{n:03}": [axis(0)] for n in range(100)} | {"far": [axis(1)]}
    segment = Segment.open(write(tmp_path / "s", vectors))

    found = search(segment, axis(0), 3)

    assert sorted(name for name, _ in found) == [f"d{n:03}" for n in range(100)]


def test_dead_documents_are_neither_found_nor_read(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"a": [axis(0)], "b": [axis(0)], "c": [axis(1)]}))

    alive = kill(segment, tmp_path, "a")

    assert [name for name, _ in search(alive, axis(0), 10)] == ["b", "c"]
    assert [alive.find(name) for name in "abc"] == [None, 1, 2]
    assert alive.dead_passages == 1
    assert segment.find("a") == 0, "the segment it was made from is not changed"


def test_a_segment_of_dead_documents_finds_nothing(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"a": [axis(0)]}))

    assert search(kill(segment, tmp_path, "a"), axis(0), 10) == []


def test_a_document_without_passages_is_kept(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"bare": [], "full": [axis(0)]}))

    assert search(segment, axis(0), 10) == [("full", 1.0)]
    row = segment.find("bare")
    assert row is not None
    assert segment.best_passage(row, None) is None
    assert segment.read(row).document.text == "bare"


def test_a_segment_without_any_passage_opens(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"bare": []}))

    assert search(segment, axis(0), 10) == []
    assert segment.dimension == DIMENSION


def test_the_best_passage_is_chosen_by_the_query_or_else_the_first(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"x": [axis(3)], "a": [axis(0), axis(1)]}))

    by_query = segment.best_passage(1, np.array(axis(1), np.float32))
    by_default = segment.best_passage(1, None)

    assert by_query is not None
    assert by_default is not None
    assert (by_query.start_byte, by_query.end_byte, by_query.token_ids.tolist()) == (1, 2, [1, 1])
    assert by_default.token_ids.tolist() == [1, 0]


def test_documents_are_read_as_they_were_written(tmp_path: Path) -> None:
    attributes: dict[str, AttributeValue] = {
        "n": 1.5,
        "s": "ä",
        "b": True,
        "t": WRITTEN,
        "l": ("x", "y"),
    }
    stored = StoredDocument(7, Document("schön", "Titel", "Text ☃", attributes, 3, WRITTEN))
    passage = StoredPassage(0, 0, 8, np.array([5], np.int32))
    vectors = np.array([axis(0)], np.float32)

    segment = Segment.open(
        {p.name: p for p in write_segment(tmp_path, [stored], [passage], vectors)}
    )

    assert segment.read(0) == stored
    serialised = document_pb2.Document.FromString(segment.serialised(0))
    assert serialised == document_to_proto(stored.document)
    assert segment.find("schön") == 0
    assert segment.find("schon") is None


def test_a_document_of_unknown_time_is_read_as_it_was_written(tmp_path: Path) -> None:
    stored = StoredDocument(1, Document("a", "", "text", {}, 1, None))
    paths = write_segment(tmp_path, [stored], [], np.zeros((0, DIMENSION), np.float32))

    assert Segment.open({path.name: path for path in paths}).read(0) == stored


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_best_passage_is_the_one_that_ranked_the_document(
    tmp_path: Path, similarity: str
) -> None:
    vectors = {"a": [axis(0, 4.0), axis(0, 1.0), axis(1, 0.5)]}
    segment = Segment.open(write(tmp_path / "s", vectors, similarity=similarity))

    best = segment.best_passage(0, np.array(axis(0), np.float32))

    assert best is not None
    # The longest by inner product, the nearest by distance.
    assert best.token_ids.tolist() == [0, 0 if similarity in ("cosine", "dot") else 1]


def test_of_two_versions_in_one_segment_the_live_one_is_found(tmp_path: Path) -> None:
    documents = [
        StoredDocument(sequence, Document("a", "", f"version {sequence}", {}, sequence, WRITTEN))
        for sequence in (1, 2, 3)
    ]
    paths = write_segment(tmp_path, documents, [], np.zeros((0, DIMENSION), np.float32))
    (tmp_path / "dead.bits").write_bytes(pack_dead(np.array([True, False, True])))

    segment = Segment.open({p.name: p for p in paths}, tmp_path / "dead.bits")

    assert segment.find("a") == 1
    assert segment.find_ids(["b", "a"], keys_of(["b", "a"])).tolist() == [-1, 1]


def test_ids_of_one_key_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.segment_tables.key_of", lambda document_id: 7)

    segment = Segment.open(write(tmp_path / "s", {"a": [axis(0)], "b": [axis(1)]}))

    assert segment.find_ids(["b", "c", "a"], keys_of(["b", "c", "a"])).tolist() == [1, -1, 0]


def test_merging_keeps_what_is_alive_in_order_of_sequence(tmp_path: Path) -> None:
    late = Segment.open(write(tmp_path / "late", {"c": [axis(2), axis(3)], "d": [axis(0)]}, 10))
    early = Segment.open(write(tmp_path / "early", {"a": [axis(0)], "b": [], "x": [axis(1)]}, 1))
    (tmp_path / "merged").mkdir()

    paths = merge_segments(
        [kill(late, tmp_path, "d"), kill(early, tmp_path, "x")], tmp_path / "merged"
    ).paths
    merged = Segment.open({path.name: path for path in paths})

    assert list(merged.ids) == ["a", "b", "c"]
    assert merged.documents["sequence"].to_pylist() == [1, 2, 10]
    assert merged.vectors.tolist() == [axis(0), axis(2), axis(3)]
    assert [row and merged.best_passage(row, None) is None for row in (1, 2)] == [True, False]
    assert search(merged, axis(3), 1) == [("c", 1.0)]


def test_words_and_lengths_move_with_their_documents(tmp_path: Path) -> None:
    late = Segment.open(write(tmp_path / "late", {"two words": [axis(2)], "gone": [axis(0)]}, 10))
    early = Segment.open(write(tmp_path / "early", {"now three words": [axis(0)]}, 1))
    buried = kill(late, tmp_path, "gone")
    (tmp_path / "merged").mkdir()

    paths = merge_segments([buried, early], tmp_path / "merged").paths
    merged = Segment.open({path.name: path for path in paths})

    assert (late.live_length, buried.live_length) == (2 + 1, 2)
    assert (merged.lengths.tolist(), merged.live_length) == ([3, 2], 3 + 2)
    offsets, words = merged.words
    own = [words[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert own == [
        ENGLISH_ANALYZER.words_of("", text)[0].tolist() for text in ("now three words", "two words")
    ]


def test_the_sparse_leg_ranks_documents_by_their_heaviest_passage(tmp_path: Path) -> None:
    terms = [{1: 1.0}, {1: 3.0, 2: 1.0}, {2: 2.0}, {3: 9.0}]
    segment = Segment.open(
        write(
            tmp_path / "s",
            {"a": [axis(0), axis(1)], "b": [axis(0)], "c": [axis(0)], "bare": []},
            terms=terms,
        )
    )

    assert weigh([segment], {1: 2.0, 2: 1.0}) == [("a", 3.0 * 2 + 1), ("b", 2.0)]
    assert weigh([kill(segment, tmp_path, "a")], {1: 2.0, 2: 1.0}) == [("b", 2.0)]
    assert weigh([segment], {8: 1.0}) == []


def test_the_sparse_leg_keeps_all_that_tie_with_the_last_over_segments(tmp_path: Path) -> None:
    first = write(tmp_path / "1", {f"a{n}": [axis(0)] for n in range(5)}, terms=[{1: 1.0}] * 5)
    other = write(tmp_path / "2", {"b": [axis(0)], "c": [axis(0)]}, 10, terms=[{1: 2.0}, {1: 1.0}])

    found = weigh([Segment.open(first), Segment.open(other)], {1: 1.0}, limit=2)

    assert found[0] == ("b", 2.0)
    assert sorted(found[1:]) == [(f"a{n}", 1.0) for n in range(5)] + [("c", 1.0)]


def test_a_segment_without_a_sparse_part_has_no_heavy_documents(tmp_path: Path) -> None:
    segment = Segment.open(write(tmp_path / "s", {"a": [axis(0)]}))

    assert weigh([segment], {1: 1.0}) == []
    assert segment.postings == 0


def test_the_best_passage_may_be_chosen_by_terms(tmp_path: Path) -> None:
    terms = [{1: 1.0}, {2: 1.0}]
    segment = Segment.open(write(tmp_path / "s", {"a": [axis(0), axis(1)]}, terms=terms))

    best = segment.best_passage(0, None, segment.weigh_passages(*query_of({2: 1.0})))

    assert best is not None
    assert best.token_ids.tolist() == [0, 1]


def test_merging_keeps_the_weights_of_live_passages(tmp_path: Path) -> None:
    late = write(
        tmp_path / "late",
        {"c": [axis(2), axis(3)], "d": [axis(0)]},
        10,
        terms=[{1: 1.0}, {2: 2.0, 3: 0.5}, {1: 8.0}],
    )
    early = write(
        tmp_path / "early", {"a": [axis(0)], "b": [], "x": [axis(1)]}, 1, terms=[{1: 4.0}, {2: 8.0}]
    )
    segments = [
        kill(Segment.open(late), tmp_path, "d"),
        kill(Segment.open(early), tmp_path, "x"),
    ]
    (tmp_path / "merged").mkdir()

    paths = merge_segments(segments, tmp_path / "merged").paths
    merged = Segment.open({path.name: path for path in paths})

    assert merged.postings == 4
    assert weigh([merged], {1: 1.0}) == [("a", 4.0), ("c", 1.0)]
    assert weigh([merged], {2: 1.0, 3: 2.0}) == [("c", 2.0 + 0.5 * 2)]


@pytest.mark.parametrize(
    "other", [{"similarity": "manhattan"}, {"terms": [{1: 1.0}]}], ids=["similarity", "terms"]
)
def test_segments_of_different_kinds_are_not_merged(tmp_path: Path, other: dict[str, Any]) -> None:
    plain = Segment.open(write(tmp_path / "plain", {"a": [axis(0)]}))
    odd = Segment.open(write(tmp_path / "odd", {"b": [axis(0)]}, 5, **other))

    with pytest.raises(TriremeError, match="different kinds"):
        merge_segments([plain, odd], tmp_path)


def test_merging_dead_segments_gives_an_empty_one(tmp_path: Path) -> None:
    segment = kill(Segment.open(write(tmp_path / "s", {"a": [axis(0)]})), tmp_path, "a")
    (tmp_path / "merged").mkdir()

    paths = merge_segments([segment], tmp_path / "merged").paths
    merged = Segment.open({path.name: path for path in paths})

    assert len(merged.documents) == 0
    assert search(merged, axis(0), 5) == []
    assert merged.find("a") is None


@pytest.mark.parametrize("name", [*FILES, SPARSE])
def test_a_file_cut_short_is_corrupt(tmp_path: Path, name: str) -> None:
    vectors = {"a": [axis(0)], "b": [axis(1)]}
    paths = write(tmp_path / "s", vectors, terms=[{1: 1.0}, {2: 1.0}])
    paths[name].write_bytes(paths[name].read_bytes()[:-20])

    with pytest.raises(CorruptFile):
        Segment.open(paths)


def test_terms_of_another_segment_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path / "s", {"a": [axis(0)]}, terms=[{1: 1.0}])
    other = write(tmp_path / "o", {"a": [axis(0)], "b": [axis(0)]}, terms=[{1: 1.0}] * 2)

    with pytest.raises(CorruptFile, match="does not fit"):
        Segment.open(paths | {SPARSE: other[SPARSE]})


def test_a_bitmap_of_another_segment_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path / "s", {f"d{n}": [axis(0)] for n in range(9)})
    (tmp_path / "dead.bits").write_bytes(pack_dead(np.zeros(8, np.bool_)))

    with pytest.raises(CorruptFile):
        Segment.open(paths, tmp_path / "dead.bits")


def test_vectors_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TriremeError, match="finite"):
        write(tmp_path / "s", {"a": [[float("nan"), 0, 0, 0]]})


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[NDArray[np.float32]], list[bool]]:
    """Documents of 0 to 3 passages with small whole components, so that many scores tie."""
    component = st.integers(-2, 2).map(float)
    vector = st.lists(component, min_size=DIMENSION, max_size=DIMENSION)
    passages = st.lists(vector, max_size=3).map(
        lambda own: np.array(own, np.float32).reshape(-1, DIMENSION)
    )
    documents = draw(st.lists(passages, min_size=1, max_size=30))
    dead = draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents)))
    return documents, dead


def plainly(similarity: str, vectors: NDArray[np.float32], query: Sequence[float]) -> float:
    """The score of the best of a document's vectors, in float64 and by definition."""
    differences = vectors.astype(np.float64) - np.array(query)
    if similarity == "euclidean":
        return float(-np.sqrt((differences**2).sum(axis=1)).min())
    if similarity == "manhattan":
        return float(-np.abs(differences).sum(axis=1).min())
    return float((vectors.astype(np.float64) @ np.array(query)).max())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@settings(max_examples=40, deadline=None)
@given(corpora(), st.integers(1, 12))
def test_search_equals_scoring_every_passage(
    tmp_path_factory: pytest.TempPathFactory,
    similarity: str,
    corpus: tuple[list[NDArray[np.float32]], list[bool]],
    limit: int,
) -> None:
    documents, dead = corpus
    directory = tmp_path_factory.mktemp("segment")
    vectors = {f"d{n}": own.tolist() for n, own in enumerate(documents)}
    paths = write(directory / "s", vectors, similarity=similarity)
    (directory / "dead.bits").write_bytes(pack_dead(np.array(dead)))
    segment = Segment.open(paths, directory / "dead.bits")
    query = [2.0, 1.0, -1.0, 0.5]

    best = {
        f"d{n}": plainly(similarity, own, query)
        for n, own in enumerate(documents)
        if len(own) and not dead[n]
    }
    ranked = sorted(best.values(), reverse=True)
    # Distances of equal length need not be equal in their last bits.
    least = ranked[limit - 1] - 1e-6 if len(ranked) >= limit else -np.inf

    found = search(segment, query, limit)

    assert dict(found) == {
        name: pytest.approx(score, abs=1e-5) for name, score in best.items() if score >= least
    }
    assert [score for _, score in found] == sorted(dict(found).values(), reverse=True)
