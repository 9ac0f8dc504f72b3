"""A shard with GPUs answers as one without, over real gRPC; the GPU is a stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.errors import BadEnvironment
from core.gpu.faiss_device import gpu_count
from core.rpc import open_channel
from shard import server
from shard.config import ShardConfig
from shard.server import Shard
from tests.fakes.asking import ask
from tests.fakes.gpu import FakeDevice
from tests.fakes.publisher import ENCODER, Publisher, embed
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

SECONDS = 20.0
WORDS = ("oar", "sail", "mast", "keel", "rope", "deck", "hull", "bow")
FILTERS = ("", "crew >= 40", "crew = 7")


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path / "index")
    for number in range(100):
        words = [WORDS[(number * step + step) % len(WORDS)] for step in range(1, 5)]
        publisher.put(f"d{number:02}", " ".join(words), attributes={"crew": float(number)})
    publisher.publish()
    for number in range(0, 100, 3):
        publisher.delete(f"d{number:02}")
    publisher.publish()
    return publisher


@asynccontextmanager
async def running(index: Path, **settings: object) -> AsyncIterator[Shard]:
    """A shard of an index for the time of a block."""
    config = ShardConfig(shard=0, index_directory=index, gpu_least_rows=1, **settings)  # type: ignore[arg-type]
    shard = await Shard.create(config)
    await shard.start()
    yield shard
    await shard.stop(0)


async def rankings(shard: Shard) -> list[tuple[list[str], list[float]]]:
    """The dense leg of a query for each word, with each filter."""
    async with open_channel(shard.address) as channel:
        stub = shard_pb2_grpc.ShardServiceStub(channel)
        found = []
        for word in WORDS:
            for filter in FILTERS:
                request = shard_pb2.SearchDenseRequest(
                    collection="ships",
                    limit=10,
                    vector=embed(word).tobytes(),
                    encoder_fingerprint=ENCODER.fingerprint,
                    filter=filter,
                )
                reply = await ask(stub, "search_dense", request)
                found.append((list(reply.ranking.ids), list(reply.ranking.scores)))
        return found


async def test_a_shard_with_a_gpu_finds_the_same_with_filters_and_deletions(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "index", device="cpu") as on_cpu:
        expected = await rankings(on_cpu)
        placed = on_cpu.registry.get_sample_value(
            "trireme_shard_segments_placed_total", {"place": "cpu"}
        )
    device = FakeDevice()
    monkeypatch.setattr(server, "find_gpus", lambda settings: device)

    async with running(tmp_path / "index", device="gpu") as on_gpu:
        before = device.searches
        found = await rankings(on_gpu)
        sample = on_gpu.registry.get_sample_value
        assert sample("trireme_shard_segments_placed_total", {"place": "gpu"}) == placed == 1
        assert sample("trireme_shard_gpu_bytes") == device.used > 0

    assert found == expected
    assert device.searches > before
    # Only documents that live and match the filter: crew 7 is d07.
    assert expected[2][0] == ["d07"]


async def test_a_shard_that_must_have_a_gpu_does_not_start_without(tmp_path: Path) -> None:
    if gpu_count():
        pytest.skip("there is a GPU here")

    with pytest.raises(BadEnvironment, match=r"device: FAISS sees no GPU; install trireme\[gpu\]"):
        await Shard.create(ShardConfig(shard=0, index_directory=tmp_path, device="gpu"))
