"""What a device promises, for the stand-in and for real GPUs where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest

from core.gpu.device import MOST, Device, DeviceFailure
from core.gpu.faiss_device import FaissDevice, gpu_count
from core.gpu.probe import probe
from core.vectors.engine import CpuEngine
from core.vectors.kinds import KINDS
from core.vectors.selection import Selection
from tests.fakes.gpu import FakeDevice
from tests.fakes.indexes import clustered

ROWS = 4000
DIMENSION = 32
LISTS = 16
VECTORS = clustered(ROWS, DIMENSION)
QUERIES = clustered(8, DIMENSION, seed=5)
ON_GPU = [kind.name for kind in KINDS.values() if kind.runs_on_gpu]


@pytest.fixture(params=["stand-in", "one GPU", "all GPUs"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "stand-in":
        yield FakeDevice()
        return
    if not gpu_count():
        pytest.skip("FAISS sees no GPU here")
    found = FaissDevice.find((0,) if request.param == "one GPU" else ())
    assert found is not None
    yield found


@pytest.fixture(scope="module", params=ON_GPU)
def index(request: pytest.FixtureRequest) -> Any:
    made = KINDS[request.param].make(DIMENSION, faiss.METRIC_INNER_PRODUCT, LISTS)
    made.train(VECTORS)
    made.add(VECTORS)
    return made


def nprobe_of(index: Any) -> int:
    return LISTS // 2 if hasattr(index, "nlist") else 0


def test_a_copy_finds_what_the_index_finds(device: Device, index: Any) -> None:
    clone = device.clone(index, float16=False)

    for query in QUERIES:
        distances, rows = clone.search(query, 10, nprobe_of(index), None)
        expected, expected_rows = CpuEngine(index).search(query, 10, None, nprobe_of(index))
        np.testing.assert_allclose(distances, expected, rtol=1e-3, atol=1e-3)
        assert len(np.intersect1d(rows, expected_rows)) >= 9


def test_a_selector_is_heeded_or_ignored_as_the_probe_says(device: Device, index: Any) -> None:
    heeded = _kind_of(index) in probe(device).selecting
    selection = Selection(np.arange(ROWS) % 3 == 0)

    _, rows = device.clone(index, float16=False).search(
        QUERIES[0], 30, nprobe_of(index), selection.selector
    )

    assert bool(selection.alive[rows].all()) == heeded


def test_fewer_rows_than_asked_for_are_no_padding(device: Device) -> None:
    small = faiss.IndexFlatIP(DIMENSION)
    small.add(VECTORS[:5])

    distances, rows = device.clone(small, float16=False).search(QUERIES[0], 10, 0, None)

    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert len(distances) == 5


def test_the_most_results_can_be_had_and_no_more(device: Device) -> None:
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(VECTORS)
    clone = device.clone(flat, float16=False)

    assert len(clone.search(QUERIES[0], MOST, 0, None)[1]) == MOST
    with pytest.raises(DeviceFailure, match=str(MOST)):
        clone.search(QUERIES[0], MOST + 1, 0, None)


def test_kinds_without_a_twin_are_refused(device: Device) -> None:
    graph = KINDS["hnsw"].make(DIMENSION, faiss.METRIC_INNER_PRODUCT, LISTS)
    graph.train(VECTORS)

    with pytest.raises(DeviceFailure, match="not implemented"):
        device.clone(graph, float16=False)


def test_half_the_digits_change_scores_little(device: Device) -> None:
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(VECTORS)

    distances, rows = device.clone(flat, float16=True).search(QUERIES[0], 10, 0, None)

    np.testing.assert_allclose(distances, VECTORS[rows] @ QUERIES[0], atol=2e-3)


def test_a_device_passes_the_probe(device: Device) -> None:
    assert probe(device).wrong == ""


def _kind_of(index: Any) -> str:
    return next(kind.name for kind in KINDS.values() if kind.index == type(index).__name__)
