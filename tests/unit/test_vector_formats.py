"""Vectors in every format say what the float32 vector said, as near as the format allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sentence_transformers import quantize_embeddings

from core.encoding import SparseVector
from core.errors import InvalidInput
from gateway.vector_formats import BINARY, FLOAT16, FLOAT32, INT8, check_directions, heaviest, pack

Floats = NDArray[np.float32]


def matrices(largest: float) -> st.SearchStrategy[Floats]:
    """Float32 matrices of 1 to 4 rows and 1 to 20 columns."""
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 20))
    components = st.floats(-largest, largest, width=32)
    return arrays.arrays(np.float32, shapes, elements=components)


def normal(rows: int, dimensions: int) -> Floats:
    vectors = np.random.default_rng(7).standard_normal((rows, dimensions)).astype(np.float32)
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def test_float32_is_left_as_it_is() -> None:
    vectors = normal(3, 5)

    assert pack(vectors, FLOAT32).rows is vectors


def test_float16_is_little_endian_and_rounded_to_the_nearest() -> None:
    vectors = np.array([[1, 1 / 3, -65504]], dtype=np.float32)

    packed = pack(vectors, FLOAT16)

    # 1.0 is 0x3C00, 1/3 is 0x3555, the largest number is 0xFBFF with its sign.
    assert packed.rows.tobytes() == bytes.fromhex("003c 5535 fffb")


def test_what_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        pack(np.array([[1, 7e4]], dtype=np.float32), FLOAT16)

    assert (refusal.value.reason, refusal.value.field) == ("OUT_OF_RANGE", "format")


def test_int8_spans_127_steps_to_the_largest_component() -> None:
    vectors = np.array([[0.5, -1, 0.25, 0], [254, 2, -1, 127]], dtype=np.float32)

    packed = pack(vectors, INT8)

    # 0.5 * 127 = 63.5 and 0.25 * 127 = 31.75; halves go to the even neighbour.
    assert packed.rows.tolist() == [[64, -127, 32, 0], [127, 1, 0, 64]]
    assert packed.scales.tolist() == pytest.approx([1 / 127, 254 / 127])


@given(matrices(largest=2.0**127))
def test_int8_is_within_half_a_step_of_every_component(vectors: Floats) -> None:
    packed = pack(vectors, INT8)

    restored = packed.rows.astype(np.float64) * packed.scales[:, None].astype(np.float64)
    # The scale itself is rounded to float32, which matters for up to 127 steps of it.
    allowed = packed.scales.astype(np.float64) * (0.5 + 127 * 2**-23) + 127 * 2**-149
    assert (np.abs(restored - vectors) <= allowed[:, None]).all()
    assert packed.rows.min(initial=0) >= -127


def test_a_vector_of_zeros_stays_one() -> None:
    packed = pack(np.zeros((1, 4), dtype=np.float32), INT8)

    assert packed.rows.tolist() == [[0, 0, 0, 0]]
    assert packed.scales.tolist() == [0]


def test_int8_is_that_of_sentence_transformers_over_the_same_range() -> None:
    # That library rounds down after dividing a range into 255 steps: a range that begins half a
    # step early makes it round to the nearest.
    for vector in normal(50, 64):
        step = np.abs(vector).max() / 127
        ranges = np.repeat([[-128.5 * step], [126.5 * step]], 64, axis=1)

        theirs = quantize_embeddings(vector[None, :], "int8", ranges=ranges)
        ours = pack(vector[None, :], INT8)

        assert ours.scales[0] == pytest.approx(step)
        assert np.array_equal(ours.rows, theirs)


def test_bits_are_signs_with_the_first_component_highest() -> None:
    vectors = np.array([[1, -1, 0, 2, -0.5, 1e-9, -0.0, 3, 4]], dtype=np.float32)

    packed = pack(vectors, BINARY)

    assert packed.rows.tolist() == [[0b10010101, 0b10000000]]


@given(matrices(largest=100))
def test_bits_are_those_of_sentence_transformers(vectors: Floats) -> None:
    theirs = quantize_embeddings(vectors, "ubinary")

    assert np.array_equal(pack(vectors, BINARY).rows, theirs)


def test_a_cut_vector_without_a_direction_is_refused_by_its_text() -> None:
    with pytest.raises(
        InvalidInput, match=r"first 2 components .* texts\[1\] are all 0"
    ) as refusal:
        check_directions(np.array([[0, 1], [0, 0]], dtype=np.float32))

    assert refusal.value.field == "dimensions"


def test_the_heaviest_terms_come_first_and_equal_ones_by_id() -> None:
    terms = SparseVector(
        np.array([7, 3, 9, 5], dtype=np.int32), np.array([1, 2, 2, 0.5], dtype=np.float32)
    )

    kept = heaviest(terms, 3)

    assert kept.ids.tolist() == [3, 9, 7]
    assert kept.weights.tolist() == [2, 2, 1]
