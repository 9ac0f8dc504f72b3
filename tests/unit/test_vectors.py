"""Every kind of vector index finds what it promises, as many as are asked for, with true scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.masks import EXACT, SELECTOR
from core.similarity import similarities
from core.vectors.choosing import FLAT_PLAN, Plan, better, choose_kind
from core.vectors.index import VectorIndex
from core.vectors.kinds import (
    FLAT,
    HNSW,
    IVF_FLAT,
    IVF_PQ,
    IVF_RABITQ,
    IVF_SQ8,
    KINDS,
    lists_for,
)
from core.vectors.recall import found_of_nearest, least_effort
from core.vectors.sealing import Sealed, write_vectors
from core.vectors.selection import Selection
from core.vectors.settings import VectorSettings
from core.vectors.stored import F16, F32, I8, PRECISIONS, StoredVectors, name_of, write_stored

ROWS, DIMENSION, TARGET = 4_000, 32, 0.9
SEALED_KINDS = [IVF_FLAT, IVF_SQ8, IVF_PQ, IVF_RABITQ, HNSW]

Vectors = NDArray[np.float32]


def clustered(rows: int, seed: int) -> Vectors:
    """Vectors of length 1 around 40 centres that are always the same."""
    centres = np.random.default_rng(0).standard_normal((40, DIMENSION))
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows, DIMENSION))
    vectors = centres[random.integers(0, len(centres), rows)] + noise / 2
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


VECTORS, QUERIES = clustered(ROWS, 1), clustered(50, 2)
EVERY_THIRD = Selection(np.arange(ROWS) % 3 == 0)
ALL_BUT_A_TENTH = Selection(np.arange(ROWS) % 10 != 0)
FEW = Selection(np.arange(ROWS) % 100 == 0)

Build = Callable[[str], tuple[VectorIndex, Sealed]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An index of all vectors, of each kind once."""
    built: dict[str, tuple[VectorIndex, Sealed]] = {}

    def make(kind: str) -> tuple[VectorIndex, Sealed]:
        if kind not in built:
            plan = Plan(KINDS[kind], (*KINDS[kind].precisions, "")[0], TARGET)
            sealed = written(tmp_path_factory.mktemp(kind), VECTORS, plan)
            built[kind] = opened(sealed), sealed
        return built[kind]

    return make


def written(
    directory: Path,
    vectors: Vectors,
    plan: Plan,
    similarity: str = "cosine",
    check: Callable[[], None] = lambda: None,
) -> Sealed:
    blocks = np.array_split(vectors, 3)
    return write_vectors(directory, blocks, vectors.shape[1], similarity, plan, check)


def opened(sealed: Sealed) -> VectorIndex:
    return VectorIndex.open({path.name: path for path in sealed.paths}, sealed.effort)


def nearest(query: Vectors, rows: NDArray[np.int64]) -> set[int]:
    """The 10 of these rows whose vectors are nearest, by definition."""
    scores = VECTORS[rows].astype(np.float64) @ query.astype(np.float64)
    return set(rows[np.argsort(-scores)[:10]].tolist())


def recall(index: VectorIndex, selection: Selection | None = None) -> float:
    rows = selection.rows if selection is not None else np.arange(ROWS)
    found = [set(index.search(query, 10, selection)[1].tolist()) for query in QUERIES]
    hits = sum(len(each & nearest(query, rows)) for each, query in zip(found, QUERIES, strict=True))
    return hits / (10 * len(QUERIES))


@pytest.mark.parametrize("kind", SEALED_KINDS)
def test_a_sealed_index_meets_its_target_on_its_own_samples_and_comes_near_on_others(
    build: Build, kind: str
) -> None:
    index, sealed = build(kind)

    assert (sealed.kind, index.kind.name) == (kind, kind)
    assert sealed.recall >= TARGET
    assert recall(index) >= TARGET - 0.1


def test_a_flat_index_finds_all(build: Build) -> None:
    index, sealed = build(FLAT)

    assert (recall(index), recall(index, EVERY_THIRD), sealed.recall) == (1, 1, 1)


@pytest.mark.parametrize("kind", [FLAT, *SEALED_KINDS])
@pytest.mark.parametrize("count", [1, 10, 700, ROWS])
def test_as_many_are_found_as_there_are_wanted_and_selected(
    build: Build, kind: str, count: int
) -> None:
    index, _ = build(kind)

    for selection, most in ((None, ROWS), (EVERY_THIRD, EVERY_THIRD.count), (FEW, FEW.count)):
        scores, rows = index.search(QUERIES[0], count, selection)
        assert len(set(rows.tolist())) == len(scores) == min(count, most)
        assert (np.diff(scores) <= 0).all()
        assert selection is None or selection.alive[rows].all()


@pytest.mark.parametrize("kind", SEALED_KINDS)
def test_a_filter_does_not_cost_recall(build: Build, kind: str) -> None:
    index, _ = build(kind)

    assert recall(index, EVERY_THIRD) >= TARGET - 0.1
    assert recall(index, FEW) == pytest.approx(1, abs=0.01)
    assert index.strategy(10, ALL_BUT_A_TENTH) == SELECTOR
    assert index.strategy(10, FEW) == index.strategy(ROWS // 2, None) == EXACT


@pytest.mark.parametrize("kind", SEALED_KINDS)
def test_scores_are_those_of_the_stored_vectors(build: Build, kind: str) -> None:
    index, _ = build(kind)

    scores, rows = index.search(QUERIES[3], 20, None)

    assert scores.tolist() == index.scores_of(rows, QUERIES[3]).tolist()
    assert scores == pytest.approx(VECTORS[rows] @ QUERIES[3], abs=2e-3)


@pytest.mark.parametrize("similarity", ["euclidean", "dot"])
def test_a_quantised_index_compares_by_other_similarities(tmp_path: Path, similarity: str) -> None:
    vectors = VECTORS * np.linspace(1, 3, ROWS, dtype=np.float32)[:, None]
    sealed = written(tmp_path, vectors, Plan(KINDS[IVF_PQ], F16, TARGET), similarity)

    index = opened(sealed)

    assert (index.similarity, sealed.recall >= TARGET) == (similarity, True)
    scores, rows = index.search(vectors[7], 5, None)
    true = similarities(vectors[rows], vectors[7], similarity)
    assert scores == pytest.approx(true, abs=0.05)


def test_what_half_precision_cannot_hold_is_stored_in_full(tmp_path: Path) -> None:
    plan = Plan(KINDS[IVF_SQ8], F16, TARGET)

    sealed = written(tmp_path, VECTORS * np.float32(1e6), plan, "dot")

    assert name_of(F32) in {path.name for path in sealed.paths}
    assert opened(sealed).decoded(slice(0, 3)).tolist() == (VECTORS[:3] * np.float32(1e6)).tolist()


def test_a_kind_that_cannot_meet_its_target_gives_way_to_a_better_one(tmp_path: Path) -> None:
    sealed = written(tmp_path, VECTORS, Plan(KINDS[IVF_RABITQ], I8, 1.0))

    assert sealed.kind == IVF_FLAT
    assert sealed.recall == 1.0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in sealed.paths}


def test_what_is_better_ends_with_full_vectors_in_lists() -> None:
    plan: Plan | None = Plan(KINDS[IVF_PQ], I8, TARGET)
    steps = []
    while plan is not None:
        steps.append((plan.kind.name, plan.precision))
        plan = better(plan)

    assert steps == [(IVF_PQ, I8), (IVF_PQ, F16), (IVF_SQ8, F16), (IVF_FLAT, F32)]


def test_building_can_be_given_up(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    calls = iter(range(12))

    def check() -> None:
        if next(calls, None) is None:
            raise Enough

    with pytest.raises(Enough):
        written(tmp_path, VECTORS, Plan(KINDS[IVF_SQ8], F16, TARGET), check=check)


def test_an_index_without_its_vectors_is_refused(build: Build) -> None:
    _, sealed = build(IVF_SQ8)

    with pytest.raises(ValueError, match="not beside it"):
        VectorIndex.open({path.name: path for path in sealed.paths[:1]})


def test_a_segment_of_one_vector_can_be_sealed(tmp_path: Path) -> None:
    index = opened(written(tmp_path, VECTORS[:1], Plan(KINDS[IVF_SQ8], F16, 0.98)))

    assert index.search(VECTORS[0], 3, None)[1].tolist() == [0]


def test_recall_of_one_query_counts_what_ties_with_the_last(build: Build) -> None:
    index, _ = build(IVF_FLAT)

    found = [found_of_nearest(index, query, EVERY_THIRD) for query in QUERIES]

    assert {wanted for _, wanted in found} == {10}
    assert sum(each for each, _ in found) >= (TARGET - 0.1) * 10 * len(QUERIES)


def test_the_least_effort_is_the_smallest_that_meets_the_target() -> None:
    efforts = list(range(1, 30))

    assert least_effort(efforts, lambda effort: effort / 30, 0.5) == (15, 0.5)
    assert least_effort(efforts, lambda effort: effort / 30, 1.0) == (29, 29 / 30)
    assert least_effort(efforts, lambda effort: 1.0, 1.0) == (1, 1.0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_stored_vectors_stay_as_they_are_when_they_are_stored_again(
    tmp_path: Path, precision: str
) -> None:
    vectors = np.concatenate([VECTORS[:50], np.zeros((1, DIMENSION), np.float32)])
    write_stored(tmp_path / "once", [vectors[:20], vectors[20:]], precision)
    once = StoredVectors.open(tmp_path / "once", precision, rows=51, dimension=DIMENSION)
    write_stored(tmp_path / "twice", [once.decoded(slice(None))], precision)

    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()
    # Half a step of a 127th of the largest component, which is at most 1.
    assert np.abs(once.decoded(np.arange(51)) - vectors).max() <= 0.5 / 127
    with pytest.raises(ValueError, match="50 vectors"):
        StoredVectors.open(tmp_path / "once", precision, rows=50, dimension=DIMENSION)


def planned(rows: int, settings: VectorSettings, similarity: str = "cosine", **where: bool) -> Plan:
    return choose_kind(
        rows, 384, similarity, settings, shard_rows=1_000_000, shard_count=2, **where
    )


def test_small_segments_are_searched_one_by_one() -> None:
    assert planned(49_999, VectorSettings()) == FLAT_PLAN
    assert planned(10**7, VectorSettings(kind=FLAT)) == FLAT_PLAN
    assert not planned(50_000, VectorSettings()).is_flat


def test_the_kind_follows_the_memory_budget() -> None:
    budgets = [0, 2 * 10**9, 10**9, 1]
    plans = [planned(10**6, VectorSettings(memory_budget_bytes=each)) for each in budgets]

    # Per vector of 384 components: half precision 768 bytes, 8 bits 388, code and id 56.
    assert [(plan.kind.name, plan.precision) for plan in plans] == [
        (IVF_PQ, F16),
        (IVF_PQ, F16),
        (IVF_PQ, I8),
        (IVF_PQ, I8),
    ]


def test_the_kind_follows_device_and_similarity() -> None:
    assert planned(10**6, VectorSettings(), gpu=True).kind.runs_on_gpu
    assert planned(10**6, VectorSettings(), "manhattan").kind.name == IVF_FLAT
    assert planned(10**6, VectorSettings(kind=HNSW)).kind.name == HNSW
    assert planned(10**6, VectorSettings(kind=HNSW), "manhattan").kind.name == IVF_FLAT


def test_lists_grow_with_the_root_and_hold_several_vectors() -> None:
    assert [lists_for(rows) for rows in (1, 100, 40_000, 1_000_000)] == [1, 16, 512, 2048]
    assert all(lists_for(rows) * 2 <= rows for rows in range(8, 200))
