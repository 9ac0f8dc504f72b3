"""The gateway process: everything is made in `create`, begins in `start`, ends in `stop`."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import grpc
from prometheus_client import CollectorRegistry

from core.call_tracing import Tracing
from core.decoding import Decoding
from core.interceptors import Boundary
from core.role_server import RoleServer, Serving
from core.rpc import open_channel
from core.security.identity import Identity
from core.security.settings import SecuritySettings
from core.security.tls import TlsSettings
from gateway.admission import Admission
from gateway.authentication import Authentication
from gateway.config import GatewayConfig
from gateway.embedding_cache import EmbeddingCache
from gateway.encoder import QueryEncoder
from gateway.explain import Explainer
from gateway.guarded_triton import GuardedTriton
from gateway.http.server import open_doors
from gateway.inference import Inference, Models
from gateway.inference_service import InferenceServicer
from gateway.legs import LegRunner
from gateway.live_queries import LiveQueries
from gateway.metrics import GatewayMetrics
from gateway.page_token import PageTokens
from gateway.passthrough import SERVICES, Passthrough
from gateway.rerank import Reranker
from gateway.search import Search
from gateway.service import SearchServicer
from gateway.shadow import Shadow
from gateway.shadow_wire import ComparisonDesk
from gateway.stored import StoredDocuments
from gateway.topology import Topology
from trireme.v1 import inference_pb2, inference_pb2_grpc, search_pb2, search_pb2_grpc

# Made until the garbage collector looks at the young ones: with Python's 700 it looked several
# times per search, and a search took 5 % more processor time. Not for roles that hold files: a
# cycle that nobody needs any more may keep one open, and its space on the disk, until then.
_YOUNG_OBJECTS = 10_000


class Gateway:
    """One gateway. Ready once a shard has said what it serves; Triton may come later."""

    def __init__(self, config: GatewayConfig) -> None:
        self._metrics = GatewayMetrics()
        self._identity = Identity.create(SecuritySettings.of(config))
        serving = Serving.of(config)
        self._triton = GuardedTriton.guard(
            config.triton_address,
            self._metrics.silent_peers,
            self._metrics.triton,
            TlsSettings.for_triton(config),
            bulk_requests=config.triton_bulk_requests,
        )
        self._topology = Topology(
            config.shards,
            self._metrics,
            hedge_quantile=config.hedge_quantile,
            hedge_share=config.hedge_share,
            tls=serving.tls,
        )
        self._indexer = open_channel(config.indexer_address, serving.tls)
        cache = EmbeddingCache(config.embedding_cache_megabytes * 1_000_000, self._metrics)
        models = Models.of(self._triton, config.model_directory)
        encoder = QueryEncoder(models.dense, models.sparse, cache)
        reranker = Reranker(models.cross, config.reranker_model)
        admission = Admission(config.max_concurrent_searches, self._metrics)
        tokens = PageTokens.create(config.page_token_key_file, config.page_token_seconds)
        search = Search(self._topology, encoder, reranker, tokens)
        explainer = Explainer(search, LegRunner(encoder), StoredDocuments(self._indexer))
        desk = ComparisonDesk(self._indexer)
        live = LiveQueries(config.shadow_queries, self._topology.stands_for)
        self._search = SearchServicer(search, explainer, admission, self._metrics, live, config)
        self._shadow = Shadow(search, self._topology, admission, live, desk, config)
        self._inference = InferenceServicer(
            Inference(models, cache), admission, self._metrics, config
        )
        guards = [] if self._identity is None else [Authentication(self._identity)]
        self._server = RoleServer.create(
            config.address,
            self._add_services,
            [Boundary(self._metrics.calls), Tracing(), *guards, Decoding()],
            serving,
            shared_port=config.workers > 1,
        )
        self._host = config.address.rpartition(":")[0]
        self._http = open_doors(config, self._server, self._metrics.http_requests, self._identity)

    @classmethod
    async def create(cls, config: GatewayConfig) -> Gateway:
        """Binds the address; raises BadEnvironment if that is not possible."""
        return cls(config)

    @property
    def address(self) -> str:
        """The `host:port` that is really bound."""
        return f"{self._host}:{self._server.port}"

    @property
    def http_address(self) -> str:
        """Likewise of the HTTP doors, once started; empty without them."""
        return "" if self._http is None else self._http.address

    @property
    def registry(self) -> CollectorRegistry:
        """What the metrics page shows."""
        return self._metrics.registry

    async def start(self) -> None:
        """Begins to answer; returns when it is ready."""
        gc.set_threshold(_YOUNG_OBJECTS)
        await self._triton.start()
        await self._topology.start()
        await self._server.start()
        if self._http is not None:
            await self._http.start()
        await self._topology.first_contact()
        self._shadow.start()
        await self._server.ready()

    async def retire(self) -> None:
        """Tells health checks to look elsewhere, and goes on answering."""
        await self._server.retire()

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight end, then lets go of everything."""
        if self._http is not None:
            await self._http.stop()
        await self._server.stop(grace_seconds)
        await self._shadow.stop()
        await self._topology.stop()
        await self._indexer.close()
        await self._triton.stop(grace_seconds)
        if self._identity is not None:
            await self._identity.stop()

    def _add_services(self, server: grpc.aio.Server) -> Sequence[str]:
        search_pb2_grpc.add_SearchServiceServicer_to_server(self._search, server)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self._inference, server)
        server.add_generic_rpc_handlers((Passthrough(self._indexer, self._topology),))
        return [
            search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name,
            inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name,
            *(service.full_name for service in SERVICES),
        ]
