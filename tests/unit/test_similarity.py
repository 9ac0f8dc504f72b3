"""Vectors are compared as their model was trained for, and more is always more alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from core.errors import ModelMismatch
from core.similarity import SIMILARITIES, check_similarity, decimals, fit, similarities

ONE = np.array([[3.0, 4.0, 12.0, 0.0]], np.float32)
FLOATS = st.floats(-8, 8, width=32)
MATRICES = arrays.arrays(np.float32, (5, 6), elements=FLOATS)


def test_each_similarity_is_what_its_name_says() -> None:
    vectors = np.array([[1, 2], [0, 0]], np.float32)
    query = np.array([4, 6], np.float32)

    def found(similarity: str) -> list[float]:
        return [float(score) for score in similarities(vectors, query, similarity)]

    assert found("dot") == [1 * 4 + 2 * 6, 0]
    assert found("cosine") == found("dot")
    assert found("euclidean") == [-5, pytest.approx(-((16 + 36) ** 0.5), abs=1e-5)]
    assert found("manhattan") == [-(3 + 4), -(4 + 6)]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_whole_vectors_of_length_one_are_left_alone(similarity: str) -> None:
    assert fit(ONE, 4, similarity, normalized=True) is ONE


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_cut_vectors_of_a_normalising_model_get_length_one_again(similarity: str) -> None:
    cut = fit(ONE, 2, similarity, normalized=True)

    assert cut.tolist() == [[pytest.approx(3 / 5), pytest.approx(4 / 5)]]


def test_cosine_needs_length_one_whatever_the_model_does() -> None:
    whole = fit(ONE, 4, "cosine", normalized=False)
    cut = fit(ONE, 2, "cosine", normalized=False)

    assert whole.tolist() == [[pytest.approx(n / 13) for n in (3, 4, 12, 0)]]
    assert cut.tolist() == [[pytest.approx(3 / 5), pytest.approx(4 / 5)]]


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
def test_other_similarities_keep_the_lengths_of_the_model(similarity: str) -> None:
    assert fit(ONE, 4, similarity, normalized=False).tolist() == ONE.tolist()
    assert fit(ONE, 2, similarity, normalized=False).tolist() == [[3, 4]]


def test_zeros_stay_zeros() -> None:
    cut = fit(np.array([[0, 0, 1]], np.float32), 2, "cosine", normalized=True)

    assert cut.tolist() == [[0, 0]]


@given(MATRICES, st.integers(1, 6))
def test_cut_vectors_are_finite_and_of_length_one_or_zero(
    vectors: NDArray[np.float32], dimension: int
) -> None:
    cut = fit(vectors, dimension, "cosine", normalized=False)

    lengths = np.linalg.norm(cut.astype(np.float64), axis=1)
    assert np.all((lengths == 0) | (np.abs(lengths - 1) < 1e-3))
    assert cut.shape == (5, dimension)


def test_scores_of_unit_vectors_keep_six_decimals() -> None:
    query = np.full(3, 3**-0.5, np.float32)

    assert [decimals(query, similarity) for similarity in ("cosine", "dot", "euclidean")] == [6] * 3


def test_scores_of_long_vectors_keep_what_float32_can_tell() -> None:
    query = np.full(100, 10.0, np.float32)

    # Inner products of such vectors are about 100 * 10 * 10, distances 100, sums of |a - b| 1,000.
    found = {similarity: decimals(query, similarity) for similarity in SIMILARITIES[1:]}
    assert found == {"dot": 6 - 4, "euclidean": 6 - 2, "manhattan": 6 - 3}


def test_an_unknown_similarity_is_refused_by_name() -> None:
    with pytest.raises(ModelMismatch, match="bi_odd: compares vectors by 'hamming'"):
        check_similarity("hamming", "bi_odd")
