"""InferenceService alone in this process: real gRPC in front, any Triton behind, no index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from core.decoding import Decoding
from core.interceptors import Boundary
from core.role_server import RoleServer
from core.rpc import open_channel
from core.triton import TritonClient
from gateway.admission import Admission
from gateway.config import GatewayConfig
from gateway.embedding_cache import EmbeddingCache
from gateway.inference import Inference, Models
from gateway.inference_service import InferenceServicer
from gateway.metrics import GatewayMetrics
from trireme.v1 import inference_pb2, inference_pb2_grpc

PERMITS = 8
SECONDS = 30.0


@dataclass(frozen=True)
class InferenceAlone:
    """The running service as its clients see it, and what it keeps inside."""

    address: str
    channel: grpc.aio.Channel
    admission: Admission
    metrics: GatewayMetrics

    @property
    def stub(self) -> Any:
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    async def embed(self, *texts: str, **fields: Any) -> inference_pb2.EmbedResponse:
        """One Embed call."""
        request = inference_pb2.EmbedRequest(texts=texts, **fields)
        reply: inference_pb2.EmbedResponse = await self.stub.Embed(request, timeout=SECONDS)
        return reply

    async def embed_sparse(self, *texts: str, **fields: Any) -> inference_pb2.EmbedSparseResponse:
        """One EmbedSparse call."""
        request = inference_pb2.EmbedSparseRequest(texts=texts, **fields)
        reply: inference_pb2.EmbedSparseResponse
        reply = await self.stub.EmbedSparse(request, timeout=SECONDS)
        return reply

    async def rerank(
        self, query: str, *passages: str, **fields: Any
    ) -> inference_pb2.RerankResponse:
        """One Rerank call."""
        request = inference_pb2.RerankRequest(query=query, passages=passages, **fields)
        reply: inference_pb2.RerankResponse = await self.stub.Rerank(request, timeout=SECONDS)
        return reply

    async def until_permits_are_taken(self, count: int) -> None:
        """Returns when exactly `count` calls or batches are being worked on."""
        async with asyncio.timeout(SECONDS):
            while self.admission.taken != count:
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    triton_address: str, model_directory: Path, *, permits: int = PERMITS
) -> AsyncIterator[InferenceAlone]:
    """The service in front of a Triton, for the time of a block."""
    config = GatewayConfig("127.0.0.1:0", (), "", triton_address, model_directory)
    metrics = GatewayMetrics()
    admission = Admission(permits, metrics)
    triton = TritonClient.create(triton_address)
    inference = Inference(Models.of(triton, model_directory), EmbeddingCache(1_000_000, metrics))
    servicer = InferenceServicer(inference, admission, metrics, config)

    def add(server: grpc.aio.Server) -> list[str]:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
        return [inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name]

    server = RoleServer.create(config.address, add, [Boundary(metrics.calls), Decoding()])
    await server.start()
    address = f"127.0.0.1:{server.port}"
    async with open_channel(address) as channel:
        yield InferenceAlone(address, channel, admission, metrics)
    await server.stop(0)
    await triton.stop(0)
