"""How alike two vectors are, as the model was trained for: names and arithmetic.

    cosine      inner product of vectors of length 1
    dot         inner product
    euclidean   minus the distance, the root of the summed squares of differences
    manhattan   minus the sum of the differences' absolute values

More is always more alike, so distances are negated, as sentence-transformers does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelMismatch

COSINE = "cosine"
DOT = "dot"
EUCLIDEAN = "euclidean"
MANHATTAN = "manhattan"
SIMILARITIES = (COSINE, DOT, EUCLIDEAN, MANHATTAN)

# Sums of float32 differ in their last bits with the place of a vector in its block. Scores are
# rounded to so many decimals, fewer for long vectors, so that equal vectors tie wherever they are.
_DECIMALS = 6

Vectors = NDArray[np.float32]


def check_similarity(similarity: str, model: str) -> str:
    """Returns a known similarity; raises ModelMismatch naming the model for another."""
    if similarity not in SIMILARITIES:
        raise ModelMismatch(
            f"compares vectors by {similarity!r}, not by one of {', '.join(SIMILARITIES)}",
            field=model,
            remedy="export it again with `trireme models export`",
        )
    return similarity


def fit(vectors: Vectors, dimension: int, similarity: str, *, normalized: bool) -> Vectors:
    """A model's vectors, float32 [n, m], as a collection of `dimension` <= m compares them.

    The first components of a Matryoshka model's vector are a vector of their own (Kusupati et al.,
    "Matryoshka representation learning", NeurIPS 2022). They get length 1 again if the model's
    vectors have it (`normalized`) or cosine similarity needs it; zeros stay zeros.
    """
    if dimension == vectors.shape[1] and (normalized or similarity != COSINE):
        return vectors
    cut = vectors[:, :dimension]
    if not normalized and similarity != COSINE:
        return cut
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.divide(cut, lengths, out=np.zeros_like(cut), where=lengths > 0)


def similarities(vectors: Vectors, query: Vectors, similarity: str) -> Vectors:
    """The similarity of each of `vectors`, float32 [n, dimension], to `query`: float32 [n]."""
    if similarity == EUCLIDEAN:
        scores = -np.linalg.norm(vectors - query, axis=1)
    elif similarity == MANHATTAN:
        scores = -np.abs(vectors - query).sum(axis=1)
    else:
        scores = vectors @ query
    return np.asarray(np.round(scores, decimals(query, similarity)), np.float32)


def decimals(query: Vectors, similarity: str) -> int:
    """How many decimals of a score float32 can tell apart for vectors as long as `query`."""
    if similarity == EUCLIDEAN:
        length = float(np.linalg.norm(query))
    elif similarity == MANHATTAN:
        length = float(np.abs(query).sum())
    else:
        length = float(query @ query)
    # A little less, since the length of a normalised vector is 1 up to rounding.
    return _DECIMALS - math.ceil(math.log10(max(1.0, length)) - 0.01)
