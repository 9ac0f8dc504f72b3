"""Which vector indexes go to GPUs, and which GPUs are trusted with any."""

from __future__ import annotations

import gc
import logging

import pytest

from core.errors import BadEnvironment
from core.gpu.device import bytes_on_gpus
from core.gpu.placement import GpuSettings, find_gpus
from core.gpu.probe import probe
from core.vectors.index import VectorIndex
from tests.fakes.gpu import FakeDevice, Placed
from tests.fakes.indexes import clustered, make_index

ROWS = 6000
ON_GPU = ["flat", "ivf_flat", "ivf_sq8"]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VectorIndex]:
    folder, vectors = tmp_path_factory.mktemp("indexes"), clustered(ROWS, 16)
    return {
        kind: make_index(folder / kind, vectors, kind) for kind in ("flat", "ivf_sq8", "ivf_pq")
    }


@pytest.mark.parametrize(
    ("kind", "settings", "place"),
    [
        ("flat", {}, "gpu"),
        ("flat", {"least_rows": ROWS + 1}, "small"),
        ("ivf_pq", {}, "kind"),
        # 6,000 vectors of 16 float32 are 375 KiB.
        ("flat", {"megabytes": 1}, "gpu"),
    ],
)
def test_the_reason_tells_where_an_index_went(
    indexes: dict[str, VectorIndex], kind: str, settings: dict[str, int], place: str
) -> None:
    placed = Placed(FakeDevice(), **settings)

    found = placed.placement.place(indexes[kind])

    assert placed.places == {place: 1}
    assert (found is indexes[kind]) == (place != "gpu")


def test_a_full_gpu_leaves_an_index_on_the_cpu(
    indexes: dict[str, VectorIndex], caplog: pytest.LogCaptureFixture
) -> None:
    size = bytes_on_gpus(indexes["flat"].faiss_index, float16=False)
    device = FakeDevice(memory_bytes=size + size // 2)
    placed = Placed(device)

    first, second = (placed.placement.place(indexes["flat"]) for _ in range(2))

    assert placed.places == {"gpu": 1, "failed": 1}
    assert second is indexes["flat"]
    assert first is not second
    assert "not copied" in caplog.text


def test_copies_stay_within_the_memory_that_is_allowed(
    indexes: dict[str, VectorIndex],
) -> None:
    # Three times 375 KiB are more than 1 MiB on one GPU, and less than 1 MiB on each of two.
    one, two = Placed(FakeDevice(), megabytes=1), Placed(FakeDevice(gpus=2), megabytes=1)

    kept = [[each.placement.place(indexes["flat"]) for _ in range(3)] for each in (one, two)]

    assert len(kept) == 2
    assert one.places == {"gpu": 2, "full": 1}
    assert two.places == {"gpu": 3}


def test_memory_is_given_back_with_the_last_reference(indexes: dict[str, VectorIndex]) -> None:
    device = FakeDevice()
    placement = Placed(device).placement
    on_gpu = placement.place(indexes["ivf_sq8"])
    assert device.used == placement.used_bytes > 0

    del on_gpu
    gc.collect()

    assert device.used == placement.used_bytes == 0


def test_a_gpu_with_wrong_answers_is_refused(
    indexes: dict[str, VectorIndex], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    placed = Placed(FakeDevice(broken=True))

    assert placed.placement.place(indexes["flat"]) is indexes["flat"]
    assert placed.places == {"cpu": 1}
    assert "gpus are not used" in caplog.text


def test_the_probe_tells_whether_selectors_are_heeded() -> None:
    assert probe(FakeDevice()).selecting == frozenset()
    assert probe(FakeDevice(honours=True)).selecting == set(ON_GPU)
    assert probe(FakeDevice(broken=True)).wrong
    assert "out of memory" in probe(FakeDevice(memory_bytes=100)).wrong


def test_gpus_that_are_not_there_are_named() -> None:
    if find_gpus(GpuSettings()) is not None:
        pytest.skip("there is a GPU here")

    assert find_gpus(GpuSettings(device="cpu")) is None
    with pytest.raises(BadEnvironment, match="sees no GPU"):
        find_gpus(GpuSettings(device="gpu"))
    with pytest.raises(BadEnvironment, match="GPU 3 is not there"):
        find_gpus(GpuSettings(gpus=(3,)))
    with pytest.raises(BadEnvironment, match="'tpu' is not one of auto, cpu, gpu"):
        find_gpus(GpuSettings(device="tpu"))
