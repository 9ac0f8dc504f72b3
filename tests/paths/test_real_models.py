"""A collection on models of the library, through every process: its scores are the library's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from core.errors import BadEnvironment
from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.models.export import export_directory
from tests.contract.conftest import missing
from tests.parity.tiny import write_transformer
from tests.paths.conftest import SECONDS, Client
from trireme.v1 import collection_pb2, ranking_pb2, search_pb2

os.environ["HF_HUB_OFFLINE"] = "1"

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("quiet_libraries")]

HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)
TEXTS = {
    "oars": "rowed by oarsmen",
    "many": "oarsmen oarsmen oarsmen rowed galley",
    "sail": "a frigate under sail",
    "cheese": "an essay on cheese, 42 pages",
    "brief": "oar",
}
QUERY = "who rowed?"


@dataclass(frozen=True)
class Gateway(Client):
    """A gateway in front of a real Triton."""

    channel: grpc.aio.Channel


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tiny random models of the library: one that compares by distance, one that weighs terms."""
    from sentence_transformers import SentenceTransformer, SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    root = tmp_path_factory.mktemp("originals")
    bert = write_transformer(root / "bert", "bert")
    masked = write_transformer(root / "masked", "bert", head="ForMaskedLM")
    distant = SentenceTransformer(
        modules=[Transformer(str(bert)), Pooling(32, "mean")],
        similarity_fn_name="euclidean",
        device="cpu",
    )
    terms = SparseEncoder(
        modules=[Transformer(str(masked), transformer_task="fill-mask"), SpladePooling("max")],
        device="cpu",
    )
    distant.save(str(root / "saved" / "distant"), create_model_card=False)
    terms.save(str(root / "saved" / "terms"), create_model_card=False)
    return {"distant": distant, "terms": terms, "saved": root / "saved"}


@pytest.fixture(scope="module")
async def gateway(
    originals: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A cluster with a real Triton over the exported models, and a collection on both."""
    state: Path = tmp_path_factory.mktemp("real")
    for name in ("distant", "terms"):
        export_directory(state / "models", originals["saved"] / name, name=name)
    config = ClusterConfig(
        state=state / "state", shards=2, port=0, model_directory=state / "models"
    )
    cluster = await Cluster.create(config)
    try:
        await started(cluster)
        async with open_channel(cluster.address) as channel:
            client = Gateway(channel)
            await _fill(client)
            yield client
    finally:
        await cluster.stop(5.0)


async def started(cluster: Cluster) -> None:
    """Starts a cluster; skips where there is no Triton."""
    try:
        await cluster.start()
    except BadEnvironment as error:
        missing(str(error))


async def _fill(gateway: Client) -> None:
    wanted = collection_pb2.Collection(
        name="texts",
        encoder=collection_pb2.ModelVersion(model="distant"),
        sparse_encoder=collection_pb2.ModelVersion(model="terms"),
        dimensions=24,
    )
    created = await gateway.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=wanted), timeout=SECONDS
    )
    assert created.collection.similarity == "euclidean"
    position = await gateway.put("texts", **TEXTS)
    await gateway.search("texts", "anything", min_position=position, rerank=HYBRID_ALONE)


def found(reply: search_pb2.SearchResponse, leg: str) -> dict[str, float]:
    assert not reply.degraded
    return {hit.document.id: getattr(hit.provenance, leg).score for hit in reply.hits}


async def test_distances_are_those_of_the_library(
    gateway: Client, originals: dict[str, Any]
) -> None:
    reply = await gateway.search(
        "texts", QUERY, mode=search_pb2.SEARCH_MODE_DENSE, rerank=HYBRID_ALONE
    )

    distant = originals["distant"]
    texts = distant.encode(list(TEXTS.values()), truncate_dim=24)
    scores = np.asarray(distant.similarity(distant.encode([QUERY], truncate_dim=24), texts))[0]
    wanted = dict(zip(TEXTS, scores.tolist(), strict=True))
    assert found(reply, "dense") == pytest.approx(wanted, abs=1e-3)
    assert list(found(reply, "dense")) == sorted(wanted, key=lambda id: -wanted[id])


async def test_weighted_terms_score_as_in_the_library(
    gateway: Client, originals: dict[str, Any]
) -> None:
    reply = await gateway.search(
        "texts", QUERY, mode=search_pb2.SEARCH_MODE_SPARSE, rerank=HYBRID_ALONE
    )

    terms = originals["terms"]
    query = terms.encode([QUERY]).to_dense().numpy()[0]
    texts = terms.encode(list(TEXTS.values())).to_dense().numpy()
    wanted = dict(zip(TEXTS, (texts @ query).tolist(), strict=True))
    assert found(reply, "sparse") == pytest.approx(
        {id: score for id, score in wanted.items() if score > 0}, rel=1e-4
    )
