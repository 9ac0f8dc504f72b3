"""How a channel comes about: with a peer that is slow to speak."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.role_server import LIVENESS, RoleServer
from core.rpc import open_channel

SECONDS = 20.0
SLOW_SECONDS = 0.5


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
    """Passes bytes on, the first of them after a pause."""
    await asyncio.sleep(pause)
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


async def test_a_peer_that_speaks_late_is_not_given_up() -> None:
    server = RoleServer.create("127.0.0.1:0", lambda _: (), ())
    await server.start()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(relay(reader, to, 0), relay(there, writer, SLOW_SECONDS))

    proxy = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    request = health_pb2.HealthCheckRequest(service=LIVENESS)
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        proxy.close()
        await server.stop(0.0)
