"""What security costs a call, against the same call without.

    python -m tests.load.security [--calls 2000]

A search that is answered at once, through gRPC and the gateway's interceptors, in one process: CPU
time of client and server together, per call. The ways are measured in turn, block by block, so that
a busy machine treats them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from core.call_tracing import Tracing
from core.decoding import Decoding
from core.interceptors import Boundary
from core.metrics import CallMetrics
from core.role_server import RoleServer, Serving
from core.rpc import open_channel
from core.security.identity import Identity
from core.security.settings import SecuritySettings
from core.security.tls import NO_TLS, TlsSettings
from gateway.authentication import Authentication
from tests.fakes.credentials import AUDIENCE, ISSUER, Certificates, Issuer, Keys, Metadata, bearer
from trireme.v1 import search_pb2, search_pb2_grpc

BLOCK = 100
WARM_UP = 200


async def _nothing(request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
    return search_pb2.SearchResponse()


def _add_search(server: grpc.aio.Server) -> Sequence[str]:
    """A search that is answered at once."""
    handler = grpc.unary_unary_rpc_method_handler(
        _nothing,
        request_deserializer=search_pb2.SearchRequest.FromString,
        response_serializer=search_pb2.SearchResponse.SerializeToString,
    )
    service = "trireme.v1.SearchService"
    found = grpc.method_handlers_generic_handler(service, {"Search": handler})
    server.add_generic_rpc_handlers((found,))
    return []


@dataclass
class Way:
    """One way of calling, and CPU microseconds per call, block by block."""

    name: str
    stub: Any
    metadata: Metadata
    blocks: list[float]

    async def run(self, calls: int) -> float:
        request = search_pb2.SearchRequest(collection="papers", query="heart of oak")
        started = time.process_time()
        for _ in range(calls):
            await self.stub.Search(request, metadata=self.metadata)
        return (time.process_time() - started) / calls * 1e6


@asynccontextmanager
async def way(
    name: str, identity: Identity | None = None, credential: str = "", tls: TlsSettings = NO_TLS
) -> AsyncIterator[Way]:
    guards = [] if identity is None else [Authentication(identity)]
    boundary = Boundary(CallMetrics("gateway", CollectorRegistry()))
    interceptors = [boundary, Tracing(), *guards, Decoding()]
    server = RoleServer.create("127.0.0.1:0", _add_search, interceptors, Serving(tls))
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}", tls) as channel:
        metadata = bearer(credential) if credential else ()
        yield Way(name, search_pb2_grpc.SearchServiceStub(channel), metadata, [])
    await server.stop(0)


async def _measure(calls: int, folder: Path) -> dict[str, Any]:
    keys, issuer = Keys(folder / "keys.yaml"), Issuer(folder / "jwks.json")
    key, token = keys.add("web", "read:papers"), issuer.token("read:papers")
    identity = Identity.create(
        SecuritySettings(
            keys.path, jwt_jwks=str(issuer.path), jwt_issuer=ISSUER, jwt_audience=AUDIENCE
        )
    )
    tls = TlsSettings.of_mapping(Certificates(folder / "tls").mutual)
    async with AsyncExitStack() as stack:
        ways = [
            await stack.enter_async_context(each)
            for each in (
                way("off"),
                way("off, though a key is sent", None, key),
                way("API key", identity, key),
                way("token (ES256)", identity, token),
                way("mutual TLS", tls=tls),
                way("mutual TLS and API key", identity, key, tls),
            )
        ]
        for each in ways:
            await each.run(WARM_UP)
        for _ in range(max(1, calls // BLOCK)):
            for each in ways:
                each.blocks.append(await each.run(BLOCK))
    off = statistics.median(ways[0].blocks)
    return {
        each.name: {
            "cpu_us_per_call": round(statistics.median(each.blocks), 1),
            "more_than_off_us": round(statistics.median(each.blocks) - off, 1),
        }
        for each in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        found = asyncio.run(_measure(arguments.calls, Path(folder)))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
