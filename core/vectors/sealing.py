"""Builds the index of a sealed segment: store, train, add, measure, in bounded memory.

Vectors come in blocks and are stored first; everything else reads them from there. Training sees a
sample. Between blocks and rounds of training a build can be given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from core import fsops
from core.errors import TriremeError
from core.vectors.choosing import FLAT_PLAN, Plan, better
from core.vectors.index import INDEX_FILE, VectorIndex
from core.vectors.kinds import FLAT, METRICS, lists_for
from core.vectors.recall import QUERIES, Truth, least_effort, sampled_queries
from core.vectors.stored import F16, F32, PRECISIONS, StoredVectors, name_of, write_stored

Vectors = NDArray[np.float32]
Check = Callable[[], None]
"""Called now and then while building; raises to give up."""

_BLOCK = 8192
_ROUNDS = 8
_SAMPLED_PER_LIST = 48
_LEAST_SAMPLE = 10_000
_MOST_EFFORT_HNSW = 1024
_LARGEST_F16 = 6e4
_SEED = 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was built: the files, and how the index is to be searched."""

    paths: tuple[Path, ...]
    kind: str
    effort: int
    recall: float
    queries: int


def write_vectors(
    directory: Path,
    blocks: Iterable[Vectors],
    dimension: int,
    similarity: str,
    plan: Plan = FLAT_PLAN,
    check: Check = lambda: None,
) -> Sealed:
    """Writes an index of vectors into a directory, unsynced: a flat one, or what is planned.

    If the planned kind cannot meet its recall, the next better one is built. Raises what `check`
    raises, StorageFull, TriremeError.
    """
    if plan.is_flat:
        return _write_flat(directory, blocks, dimension, similarity)
    source = directory / name_of(F32)
    write_stored(source, _checked(blocks, check), F32)
    rows = source.stat().st_size // (4 * dimension)
    original = StoredVectors.open(source, F32, rows=rows, dimension=dimension)
    builder = _Builder(directory, original, dimension, similarity, check)
    sealed = builder.build(plan)
    while sealed.recall < plan.target_recall:
        next_plan = better(plan)
        if next_plan is None:
            break
        plan = next_plan
        sealed = builder.build(plan)
    for unused in {directory / name_of(each) for each in PRECISIONS} - set(sealed.paths):
        unused.unlink(missing_ok=True)
    return sealed


def _write_flat(
    directory: Path, blocks: Iterable[Vectors], dimension: int, similarity: str
) -> Sealed:
    index = faiss.IndexFlat(dimension, METRICS[similarity])
    for block in blocks:
        index.add(np.ascontiguousarray(block, np.float32))
    path = directory / INDEX_FILE
    write_index(path, index)
    return Sealed((path,), FLAT, 0, 1.0, 0)


class _Builder:
    """Builds one index after the other from the same vectors, until one is good enough."""

    def __init__(
        self,
        directory: Path,
        original: StoredVectors,
        dimension: int,
        similarity: str,
        check: Check,
    ) -> None:
        self._directory = directory
        self._original = original
        self._dimension = dimension
        self._similarity = similarity
        self._check = check
        self._centroids: Vectors | None = None
        self._truth: Truth | None = None

    def build(self, plan: Plan) -> Sealed:
        """Stores, trains, adds, measures."""
        rows = len(self._original)
        lists = lists_for(rows)
        index = plan.kind.make(self._dimension, METRICS[self._similarity], lists)
        self._train(index, lists)
        for first in range(0, rows, _BLOCK):
            self._check()
            index.add(self._original.decoded(slice(first, first + _BLOCK)))
        path, stored = self._stored(plan)
        vectors = VectorIndex(index, plan.kind, stored, 0)
        effort, recall = self._tuned(vectors, plan.target_recall)
        index_path = self._directory / INDEX_FILE
        index_path.unlink(missing_ok=True)
        write_index(index_path, index)
        return Sealed((index_path, path), plan.kind.name, effort, recall, QUERIES)

    def _train(self, index: Any, lists: int) -> None:
        if isinstance(index, faiss.IndexIVF):
            if self._centroids is None:
                self._centroids = self._clustered(lists)
            index.quantizer.add(self._centroids)
        index.train(self._sample(_LEAST_SAMPLE))

    def _clustered(self, lists: int) -> Vectors:
        """The middles of the lists, by Lloyd's algorithm, one round at a time."""
        sample = self._sample(max(_LEAST_SAMPLE, lists * _SAMPLED_PER_LIST))
        settings = faiss.ClusteringParameters()
        settings.niter, settings.seed = 1, _SEED
        settings.min_points_per_centroid = 1
        settings.max_points_per_centroid = len(sample)
        metric = METRICS[self._similarity]
        settings.spherical = metric == faiss.METRIC_INNER_PRODUCT
        clustering = faiss.Clustering(self._dimension, lists, settings)
        for _ in range(_ROUNDS):
            self._check()
            closest = faiss.IndexFlat(
                self._dimension, metric if settings.spherical else faiss.METRIC_L2
            )
            clustering.train(sample, closest)
        centroids: Vectors = faiss.vector_to_array(clustering.centroids)
        return centroids.reshape(lists, self._dimension)

    def _sample(self, count: int) -> Vectors:
        rows = len(self._original)
        drawn = np.random.default_rng(_SEED).permutation(rows)[:count]
        return np.ascontiguousarray(self._original.decoded(np.sort(drawn)))

    def _stored(self, plan: Plan) -> tuple[Path, StoredVectors]:
        """The vectors beside the index; in full where half precision would not hold them."""
        precision = plan.precision
        if precision == F16 and not self._fits_f16():
            precision = F32
        path = self._directory / name_of(precision)
        if precision != F32:
            path.unlink(missing_ok=True)
            write_stored(path, self._blocks(), precision)
        rows = len(self._original)
        stored = StoredVectors.open(path, precision, rows=rows, dimension=self._dimension)
        return path, stored

    def _fits_f16(self) -> bool:
        return all(float(np.abs(block).max()) < _LARGEST_F16 for block in self._blocks())

    def _blocks(self) -> Iterable[Vectors]:
        for first in range(0, len(self._original), _BLOCK):
            self._check()
            yield self._original.decoded(slice(first, first + _BLOCK))

    def _tuned(self, index: VectorIndex, target: float) -> tuple[int, float]:
        """The least effort that meets the target, against exact search of the original vectors."""
        similarity = index.similarity
        if self._truth is None:
            queries = sampled_queries(self._original, similarity)
            self._truth = Truth.of(self._original, similarity, queries, self._check)
        truth = self._truth
        most = index.faiss_index.nlist if index.kind.has_lists else _MOST_EFFORT_HNSW

        def recall_at(effort: int) -> float:
            self._check()
            index.effort = effort
            return truth.recall(index)

        return least_effort(efforts(most), recall_at, target)


def efforts(most: int) -> list[int]:
    """Efforts to try: each about a sixth above the one before, up to the most."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(found[-1] * 1.19))))
    return found


def write_index(path: Path, index: Any) -> None:
    """Writes a FAISS index piece by piece, unsynced; raises StorageFull, TriremeError."""
    # Given a path, FAISS would only print that the last block did not fit on the disk.
    with fsops.storage_errors(path), path.open("xb") as file:
        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise TriremeError(f"cannot write {path}: {error}") from error


def _checked(blocks: Iterable[Vectors], check: Check) -> Iterable[Vectors]:
    for block in blocks:
        check()
        yield block
