"""The learned-sparse part scores like multiplying the matrices, and keeps what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import TriremeError
from core.sparse import Postings, SparsePart, count_postings, write_postings

TERMS = 12

Passage = dict[int, float]
# Halves and quarters: products and sums are exact.
WEIGHTS = st.integers(1, 40).map(lambda n: n / 4)
PASSAGES = st.lists(st.dictionaries(st.integers(0, TERMS - 1), WEIGHTS, max_size=6), max_size=12)
QUERIES = st.dictionaries(st.integers(0, TERMS + 3), WEIGHTS, max_size=6)


def arrays(passage: Passage) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Terms in the order given, and their weights."""
    return np.array([*passage], np.int32), np.array([*passage.values()], np.float32)


def written(directory: Path, passages: list[Passage]) -> SparsePart:
    path = directory / "sparse.arrow"
    write_postings(path, Postings.of([arrays(passage) for passage in passages]))
    return SparsePart.open(path, len(passages))


def score(passage: Passage, query: Passage) -> float:
    return sum(passage.get(term, 0.0) * weight for term, weight in query.items())


def test_a_passage_scores_the_sum_of_products(tmp_path: Path) -> None:
    part = written(tmp_path, [{7: 0.5, 3: 2.0}, {}, {3: 1.5}])

    scores = part.scores(*arrays({3: 2.0, 7: 4.0, 9: 1.0}))

    assert scores.tolist() == [0.5 * 4.0 + 2.0 * 2.0, 0, 1.5 * 2.0]


def test_nothing_is_found_where_nothing_was_written(tmp_path: Path) -> None:
    part = written(tmp_path, [{}, {}])

    assert part.scores(*arrays({1: 1.0})).tolist() == [0, 0]
    assert part.postings == 0


@settings(max_examples=60, deadline=None)
@given(PASSAGES, QUERIES)
def test_scores_equal_multiplying_everything(
    tmp_path_factory: pytest.TempPathFactory, passages: list[Passage], query: Passage
) -> None:
    part = written(tmp_path_factory.mktemp("sparse"), passages)

    assert part.scores(*arrays(query)).tolist() == [score(each, query) for each in passages]
    assert part.postings == sum(len(passage) for passage in passages)


@settings(max_examples=60, deadline=None)
@given(PASSAGES)
def test_postings_are_read_as_they_were_written_and_moved_as_told(
    tmp_path_factory: pytest.TempPathFactory, passages: list[Passage]
) -> None:
    part = written(tmp_path_factory.mktemp("sparse"), passages)
    # Every second passage is dropped, the others are put in the opposite order.
    kept = [*range(0, len(passages), 2)][::-1]
    place = np.full(len(passages), -1)
    place[kept] = np.arange(len(kept))

    directory = tmp_path_factory.mktemp("moved")
    write_postings(directory / "sparse.arrow", part.read().moved(place))
    moved = SparsePart.open(directory / "sparse.arrow", len(kept))

    for term in range(TERMS):
        own = moved.scores(*arrays({term: 1.0})).tolist()
        assert own == [passages[row].get(term, 0.0) for row in kept]


def test_a_score_does_not_depend_on_the_order_of_terms_or_the_place(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    weights = {int(term): float(w) for term, w in enumerate(generator.random(TERMS) + 0.1)}
    backwards = dict(reversed(weights.items()))
    part = written(tmp_path, [{1: 1.0}, weights, backwards])

    forth = part.scores(*arrays(weights))
    back = part.scores(*arrays(backwards))

    assert forth[1] == forth[2] == back[1] == back[2]


def test_the_file_tells_its_postings(tmp_path: Path) -> None:
    written(tmp_path, [{1: 1.0, 2: 1.0}, {2: 3.0}])

    assert count_postings(tmp_path / "sparse.arrow") == 3


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_weight_that_says_nothing_is_not_written(tmp_path: Path, weight: float) -> None:
    with pytest.raises(TriremeError, match="no finite number above 0"):
        written(tmp_path, [{1: weight}])


def test_a_part_of_another_segment_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [{1: 1.0}, {2: 1.0}])

    with pytest.raises(ValueError, match="does not fit"):
        SparsePart.open(tmp_path / "sparse.arrow", 1)
