"""The learned-sparse leg of a shard, over real gRPC and real files."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from core.errors import CorruptFile, ModelMismatch
from core.index_store import IndexStore
from core.manifest import FileEntry, Manifest
from core.rpc import open_channel, reason_of
from core.segment import SPARSE
from shard.config import ShardConfig
from shard.fetched import Terms
from shard.server import Shard
from shard.snapshot import Snapshot
from tests.fakes.asking import ask
from tests.fakes.publisher import SPARSE_ENCODER, Publisher, embed, token_of
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

SECONDS = 20.0


def terms(**weights: float) -> dict[str, Any]:
    """A query given as word=weight."""
    return {"terms": [token_of(word) for word in weights], "weights": [*weights.values()]}


def arrays(**weights: float) -> Terms:
    fields = terms(**weights)
    return Terms(np.array(fields["terms"], np.int32), np.array(fields["weights"], np.float32))


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path / "index", sparse=True)
    publisher.put("galley", "rowed by oarsmen\nslow and heavy oarsmen oarsmen")
    publisher.put("raft", "made of logs by oarsmen")
    publisher.put("kite", "made of paper")
    publisher.publish()
    return publisher


@pytest_asyncio.fixture
async def stub(
    tmp_path: Path, publisher: Publisher
) -> AsyncIterator[shard_pb2_grpc.ShardServiceAsyncStub]:
    shard = await Shard.create(ShardConfig(shard=0, index_directory=tmp_path / "index"))
    await shard.start()
    async with open_channel(shard.address) as channel:
        yield shard_pb2_grpc.ShardServiceStub(channel)
    await shard.stop(0)


async def search(stub: shard_pb2_grpc.ShardServiceAsyncStub, **fields: Any) -> Any:
    request: dict[str, Any] = {
        "collection": "ships",
        "limit": 10,
        "encoder_fingerprint": SPARSE_ENCODER.fingerprint,
    } | fields
    return await ask(stub, "search_sparse", shard_pb2.SearchSparseRequest(**request))


async def test_documents_rank_by_their_heaviest_passage(
    stub: shard_pb2_grpc.ShardServiceAsyncStub,
) -> None:
    found = await search(stub, **terms(oarsmen=2.0, logs=0.5))

    # Weights are log(1 + count); the galley's second line has the word twice.
    assert list(found.ranking.ids) == ["galley", "raft"]
    assert list(found.ranking.scores) == pytest.approx(
        [2 * math.log(3), 2 * math.log(2) + 0.5 * math.log(2)]
    )
    assert (found.generation.generation, found.generation.sequence) == (1, 3)
    assert found.search_microseconds > 0


async def test_the_watch_tells_the_sparse_encoder_and_the_dimension(
    stub: shard_pb2_grpc.ShardServiceAsyncStub,
) -> None:
    async for news in stub.Watch(shard_pb2.WatchRequest()):
        (state,) = news.collections
        break

    assert state.dimension == 64
    assert state.sparse_encoder_model == "sparse_encoder"
    assert state.sparse_encoder_version == "1"
    assert state.sparse_encoder_fingerprint == SPARSE_ENCODER.fingerprint


async def test_the_best_passage_is_chosen_by_terms_where_there_is_no_vector(
    stub: shard_pb2_grpc.ShardServiceAsyncStub,
) -> None:
    async def span(**fields: Any) -> tuple[int, int]:
        request = shard_pb2.FetchRequest(collection="ships", ids=["galley"], **fields)
        (document,) = (await ask(stub, "fetch", request)).documents
        return document.start_byte, document.end_byte

    first, second = (0, 16), (17, 47)
    assert await span() == first
    assert await span(**terms(heavy=1.0)) == second
    assert await span(**terms(heavy=1.0), vector=embed("rowed by oarsmen").tobytes()) == first


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"limit": 0}, grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_RANGE"),
        (
            {"terms": [1, 1], "weights": [1.0, 2.0]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "MALFORMED",
        ),
        ({"terms": [1, 2], "weights": [1.0]}, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
        ({"terms": [1], "weights": [math.nan]}, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
        ({"terms": [1], "weights": [0.0]}, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
        ({"encoder_fingerprint": "x"}, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH"),
        ({"collection": "absent"}, grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_answered_is_refused(
    stub: shard_pb2_grpc.ShardServiceAsyncStub,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await search(stub, **(terms(oarsmen=1.0) | fields))

    assert (caught.value.code(), reason_of(caught.value)) == (code, reason)


async def test_a_collection_without_the_leg_says_so(
    stub: shard_pb2_grpc.ShardServiceAsyncStub, tmp_path: Path
) -> None:
    Publisher(tmp_path / "index", "plain", uid="uid-2").publish()
    async for news in stub.Watch(shard_pb2.WatchRequest()):
        if any(state.collection == "plain" for state in news.collections):
            break

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await search(stub, collection="plain", **terms(oarsmen=1.0))

    assert reason_of(caught.value) == "NO_SUCH_LEG"


def snapshot_of(publisher: Publisher, manifest: Manifest, directory: Path) -> Snapshot:
    return Snapshot.open(publisher.store, manifest, directory, None)


def test_dead_documents_and_merges_change_nothing_else(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.put("raft", "made of reeds")
    publisher.delete("kite")
    apart = snapshot_of(publisher, publisher.publish(), tmp_path / "apart")
    merged = snapshot_of(publisher, publisher.merge(), tmp_path / "merged")

    for query in (arrays(oarsmen=1.0), arrays(made=1.0, reeds=2.0), arrays(paper=1.0)):
        before = [(each.id, each.score) for each in apart.search_sparse(query, 10)]
        assert [(each.id, each.score) for each in merged.search_sparse(query, 10)] == before
    assert [each.id for each in merged.search_sparse(arrays(made=1.0), 10)] == ["raft"]


def test_a_flipped_bit_in_the_sparse_part_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    manifest = publisher.publish()
    path = publisher.store.path(sparse_file(manifest))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    store = IndexStore.open(tmp_path / "index").shard(publisher.uid, 0)

    with pytest.raises(CorruptFile, match=SPARSE):
        Snapshot.open(store, manifest, tmp_path / "view", None)


def sparse_file(manifest: Manifest) -> FileEntry:
    (entry,) = (file for file in manifest.files() if file.name == SPARSE)
    return entry


def test_a_generation_made_by_other_encoders_is_refused(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.sparse_encoder = None

    with pytest.raises(ModelMismatch, match="sparse leg"):
        snapshot_of(publisher, publisher.publish(), tmp_path / "view")


def test_vectors_of_another_similarity_are_refused(publisher: Publisher, tmp_path: Path) -> None:
    publisher.encoder = replace(publisher.encoder, similarity="euclidean")

    with pytest.raises(ModelMismatch, match="euclidean"):
        snapshot_of(publisher, publisher.publish(), tmp_path / "view")
