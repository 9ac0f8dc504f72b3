"""Vector indexes of any kind over random clustered vectors, as a shard opens them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.vectors.choosing import Plan
from core.vectors.index import VectorIndex
from core.vectors.kinds import KINDS
from core.vectors.sealing import write_vectors

Vectors = NDArray[np.float32]


def clustered(rows: int, dimension: int, seed: int = 3) -> Vectors:
    """Vectors of length 1 around 32 centres, float32 [rows, dimension]."""
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((32, dimension))
    vectors = centres[chance.integers(0, 32, rows)] + chance.standard_normal((rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def make_index(
    directory: Path, vectors: Vectors, kind: str, similarity: str = "cosine"
) -> VectorIndex:
    """Writes an index of one kind into a new directory and opens it."""
    directory.mkdir(parents=True)
    plan = Plan(KINDS[kind], next(iter(KINDS[kind].precisions), ""), 0.0)
    sealed = write_vectors(directory, [vectors], vectors.shape[1], similarity, plan)
    index = VectorIndex.open({path.name: path for path in sealed.paths}, sealed.effort)
    index.effort = max(sealed.effort, 4) if kind != "flat" else 0
    return index
