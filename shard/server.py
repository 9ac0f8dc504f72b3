"""One shard process: the library of open generations behind a gRPC server."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from prometheus_client import CollectorRegistry

from core.call_tracing import Tracing
from core.gpu.placement import GpuSettings, Placement, find_gpus
from core.index_store import IndexStore, Location
from core.interceptors import Boundary
from core.role_server import RoleServer, Serving
from shard.adoption import Adoption
from shard.answers import Answers
from shard.config import ShardConfig
from shard.library import Library
from shard.metrics import ShardMetrics
from shard.recall_watch import RecallWatch
from shard.scratch import Scratch
from shard.searcher import Searcher
from shard.service import ShardServicer
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc


class Shard:
    """`await create(config)`, `start()`, `stop(grace_seconds)`."""

    def __init__(
        self,
        server: RoleServer,
        servicer: ShardServicer,
        address: str,
        library: Library,
        searcher: Searcher,
        scratch: Scratch,
        metrics: ShardMetrics,
    ) -> None:
        self._server = server
        self._servicer = servicer
        self._library = library
        self._searcher = searcher
        self._scratch = scratch
        self.address = address
        self.registry: CollectorRegistry = metrics.registry

    @classmethod
    async def create(cls, config: ShardConfig) -> Shard:
        """Binds the address; raises BadEnvironment, NewerFormat or CorruptFile."""
        metrics = ShardMetrics()
        store = IndexStore.open(Location.of(config))
        searcher = Searcher(config.search_threads, config.queued_searches, config.inline_rows)
        scratch = Scratch.create(config.scratch_directory or config.index_directory / "scratch")
        library = Library(
            Adoption(store, scratch, config.shard, _placement(config, metrics).place),
            metrics,
            poll_seconds=config.poll_seconds,
            keep_seconds=config.keep_seconds,
            keep_generations=config.keep_generations,
            page_seconds=config.page_seconds,
            page_generations=config.page_generations,
        )

        metrics.searches_in_threads.set_function(lambda: searcher.busy)
        watch = RecallWatch(searcher, metrics, config.recall_one_in)
        answers = Answers(library, searcher, metrics, watch)
        servicer = ShardServicer(library, answers, metrics.calls)

        def add_services(server: grpc.aio.Server) -> Sequence[str]:
            shard_pb2_grpc.add_ShardServiceServicer_to_server(servicer, server)
            return [shard_pb2.DESCRIPTOR.services_by_name["ShardService"].full_name]

        interceptors = [Boundary(metrics.calls), Tracing()]
        server = RoleServer.create(config.address, add_services, interceptors, Serving.of(config))
        address = f"{config.address.rpartition(':')[0]}:{server.port}"
        return cls(server, servicer, address, library, searcher, scratch, metrics)

    async def start(self) -> None:
        """Opens what is published, then says that it is ready."""
        await self._server.start()
        await self._library.start()
        await self._server.ready()

    async def retire(self) -> None:
        """Tells health checks to look elsewhere, and goes on answering."""
        await self._server.retire()

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight end for up to `grace_seconds`, then frees everything."""
        self._library.end_watches()
        self._servicer.end_conversations()
        await self._server.stop(grace_seconds)
        await self._library.stop()
        self._searcher.stop()
        self._scratch.close()

    def __repr__(self) -> str:
        return f"<Shard at {self.address}, {len(self._library.serving())} collections>"


def _placement(config: ShardConfig, metrics: ShardMetrics) -> Placement:
    """Where vectors are searched; raises BadEnvironment if the GPUs that are wanted are missing."""
    settings = GpuSettings(
        device=config.device,
        gpus=config.gpus,
        least_rows=config.gpu_least_rows,
        megabytes=config.gpu_megabytes,
        float16=config.gpu_float16,
    )
    placement = Placement.create(
        settings,
        find_gpus(settings),
        on_place=lambda place: metrics.placed.labels(place).inc(),
        on_fallback=lambda reason: metrics.gpu_fallbacks.labels(reason).inc(),
    )
    metrics.gpu_bytes.set_function(lambda: placement.used_bytes)
    return placement
