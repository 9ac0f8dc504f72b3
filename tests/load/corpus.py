"""A collection in a cluster of one shard, filled step by step through the write path."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from core.index_store import IndexStore, ShardStore
from core.manifest import Manifest
from core.rpc import CHANNEL_OPTIONS
from deploy.cli.cluster import started_cluster
from deploy.cli.upload import ensure_collection, upload, wait_until_indexed
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.stored_vectors import StoredVectors, serving
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc
from trireme.v1 import ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "corpus"
SHARD = "shard-0"
SECONDS = 30.0
# As many candidates as a gateway asks of each leg.
WINDOW = 100
# Merges go on for a while after the last write is visible: settled is what does not change so long.
_SETTLED_SECONDS = 5.0
_POLL_SECONDS = 0.25

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """One search: ids best first, what the server says it took, what the caller waited."""

    ids: tuple[str, ...]
    server_ms: float
    caller_ms: float


@dataclass(frozen=True, slots=True)
class Added:
    """Seconds until all that was added could be found, and until merges had ended."""

    searchable: float
    settled: float


class Corpus:
    """A running cluster with one collection in one shard."""

    def __init__(self, cluster: Cluster, channel: grpc.Channel, shard: grpc.Channel) -> None:
        self.cluster = cluster
        self._channel = channel
        self._search = search_pb2_grpc.SearchServiceStub(channel)
        self._converse = shard_pb2_grpc.ShardServiceStub(shard).Converse
        self._fingerprint = ""

    def add(self, path: Path) -> Added:
        """Stores a JSON-lines file, waits until all of it can be found and merges have ended."""
        started = time.perf_counter()
        collection = ensure_collection(self._channel, COLLECTION)
        self._fingerprint = collection.encoder.fingerprint
        upload(self._channel, collection, path, lambda documents, size: None)
        wait_until_indexed(self._channel, COLLECTION, lambda indexed, accepted: None)
        searchable = time.perf_counter() - started
        return Added(searchable, self._settled() - started)

    def published(self) -> tuple[ShardStore, Manifest]:
        """The shard's files and its newest manifest."""
        store = IndexStore.open(self.cluster.config.state / "index")
        (entry,) = store.collections()
        shard = store.shard(entry.uid, 0)
        manifest = shard.read_current()
        assert manifest is not None
        return shard, manifest

    def search(self, query: str, mode: search_pb2.SearchMode.ValueType) -> Found:
        """A search through the gateway, without reranking; `server_ms` is the gateway's."""
        request = search_pb2.SearchRequest(
            collection=COLLECTION,
            query=query,
            mode=mode,
            page_size=10,
            rerank=ranking_pb2.Rerank(enabled=False),
        )
        started = time.perf_counter()
        reply = self._search.Search(request, timeout=SECONDS)
        waited = 1000 * (time.perf_counter() - started)
        assert not reply.degraded
        ids = tuple(hit.document.id for hit in reply.hits)
        return Found(ids, reply.total_microseconds / 1000, waited)

    def nearest(self, vector: Vectors) -> Found:
        """The dense leg alone, asked of the shard itself; `server_ms` is the search's own."""
        request = shard_pb2.SearchDenseRequest(
            collection=COLLECTION,
            limit=WINDOW,
            vector=vector.astype("<f4").tobytes(),
            encoder_fingerprint=self._fingerprint,
        )
        started = time.perf_counter()
        ask = shard_pb2.Ask(call=1, search_dense=request)
        asked = iter([shard_pb2.ConverseRequest(asks=[ask])])
        reply = next(iter(self._converse(asked, timeout=SECONDS))).answers[0].search_dense
        waited = 1000 * (time.perf_counter() - started)
        return Found(tuple(reply.ranking.ids), reply.search_microseconds / 1000, waited)

    def restart_shard(self, query: str) -> float:
        """Kills the shard; returns seconds until its successor has answered a search."""
        before = self.cluster.restarts[SHARD]
        started = time.perf_counter()
        self.cluster.kill(SHARD)
        while self.cluster.restarts[SHARD] == before or not self._answers(query):
            time.sleep(_POLL_SECONDS)
        return time.perf_counter() - started

    def _answers(self, query: str) -> bool:
        try:
            return bool(self.search(query, search_pb2.SEARCH_MODE_HYBRID).ids)
        except (grpc.RpcError, AssertionError):
            return False

    def _settled(self) -> float:
        """When the last generation was published, once no other follows."""
        seen, since = self.published()[1].order, time.perf_counter()
        while time.perf_counter() - since < _SETTLED_SECONDS:
            time.sleep(_POLL_SECONDS)
            newest = self.published()[1].order
            if newest != seen:
                seen, since = newest, time.perf_counter()
        return since


@contextmanager
def running_corpus(state: Path, triton: StoredVectors, **settings: Any) -> Iterator[Corpus]:
    """A cluster of one shard whose encoder is `triton`; `settings` are by role."""
    with serving(triton):
        config = ClusterConfig(
            state=state,
            shards=1,
            port=0,
            triton_address=triton.address,
            model_directory=triton.model_directory,
            settings={"gateway": {"embedding_cache_megabytes": 0}, **settings},
        )
        options = list(CHANNEL_OPTIONS)
        with (
            started_cluster(config) as cluster,
            grpc.insecure_channel(cluster.address, options=options) as channel,
            grpc.insecure_channel(cluster.addresses[SHARD], options=options) as shard,
        ):
            yield Corpus(cluster, channel, shard)
