"""How every role serves gRPC: options, TLS, health, reflection."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from core.accepting import open_server
from core.errors import BadEnvironment
from core.rpc import MAX_RECEIVE_BYTES
from core.security.tls import NO_TLS, TlsSettings

SERVER_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Pings that a busy machine held back arrive all at once: no reason to end a connection.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),
)

AddServices = Callable[[grpc.aio.Server], Sequence[str]]
"""Registers servicers on a server and returns the full names of their services."""


LIVENESS = "liveness"
"""The name under which the health service tells that a role lives, whether it is ready or not."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a role serves; its configuration has settings of the same names.

    tls                     see there
    reflection              whether clients may ask which services and messages there are
    health_address          `host:port` where the health service alone is served, without TLS
    connection_age_seconds  after about so long clients are told to connect anew; 0: never. Calls
                            under way go on
    """

    tls: TlsSettings = NO_TLS
    reflection: bool = True
    health_address: str = ""
    connection_age_seconds: float = 0.0

    @classmethod
    def of(cls, config: Any) -> Serving:
        """As a role's configuration says."""
        age = getattr(config, "connection_age_seconds", 0.0)
        return cls(TlsSettings.of(config), config.reflection, config.health_address, age)

    def options(self, shared_port: bool) -> list[tuple[str, int | str]]:
        """What a gRPC server is told."""
        options = dict(SERVER_OPTIONS) | {"grpc.so_reuseport": int(shared_port)}
        if self.connection_age_seconds:
            options["grpc.max_connection_age_ms"] = int(self.connection_age_seconds * 1000)
        return list(options.items())


PLAIN = Serving()


class RoleServer:
    """One role's gRPC server: `await create`, `start()`, `stop(grace_seconds)`.

    Health is NOT_SERVING until `ready()` is called, but for that of LIVENESS.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        services: Sequence[str],
        port: int,
        health_alone: tuple[grpc.aio.Server, int] | None,
        *,
        reflects: bool,
    ) -> None:
        self._servers = [server]
        self._services = services
        self._health = health.aio.HealthServicer()
        self.port = port
        self.health_port = 0
        if health_alone is not None:
            self._servers.append(health_alone[0])
            self.health_port = health_alone[1]
        for each in self._servers:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, each)
        if reflects:
            names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)

    @classmethod
    def create(
        cls,
        address: str,
        add_services: AddServices,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        serving: Serving = PLAIN,
        *,
        shared_port: bool = False,
    ) -> RoleServer:
        """Binds `host:port` (port 0 picks a free one).

        With `shared_port`, other processes of this user may be bound to it in the same way. Raises
        BadEnvironment if it is in use or the certificates cannot be used.
        """
        options = serving.options(shared_port)
        server = open_server(interceptors, options)
        services = add_services(server)
        port = _bind(server, address, serving.tls, shared_port)
        alone = _health_server(serving.health_address, options, shared_port)
        return cls(server, services, port, alone, reflects=serving.reflection)

    def also_at(self, address: str) -> None:
        """Listens at a `unix:` path too, before `start`: for this process's own calls."""
        self._servers[0].add_insecure_port(address)

    async def start(self) -> None:
        """Starts to answer, as not ready."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        for server in self._servers:
            await server.start()

    async def ready(self) -> None:
        """Tells health checks that this role can do its work."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def retire(self) -> None:
        """Tells health checks to look elsewhere; calls are answered as before."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Says NOT_SERVING, lets calls in flight end for up to `grace_seconds`, then stops."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        for server in self._servers:
            await server.stop(grace_seconds)

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self._services):
            await self._health.set(service, status)


def _health_server(
    address: str, options: Sequence[tuple[str, int | str]], shared: bool
) -> tuple[grpc.aio.Server, int] | None:
    """A server for those who ask for health without TLS, and its port; None without an address."""
    if not address:
        return None
    server = open_server((), options)
    return server, _bind(server, address, NO_TLS, shared)


def _bind(server: grpc.aio.Server, address: str, tls: TlsSettings, shared: bool) -> int:
    """The port that the server listens at; raises BadEnvironment."""
    if not shared:
        check_free(address)
    try:
        if tls.serves:
            port = server.add_secure_port(address, tls.server_credentials())
        else:
            port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _cannot_listen(address, str(error)) from error
    if port == 0:
        raise _cannot_listen(address, "refused")
    return port


def check_free(address: str) -> None:
    """Raises BadEnvironment if something listens at `host:port` already."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or port == "0":
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            detail = "already in use" if error.errno == errno.EADDRINUSE else str(error)
            raise _cannot_listen(address, detail) from error


def _cannot_listen(address: str, detail: str) -> BadEnvironment:
    return BadEnvironment(
        f"cannot listen at {address}: {detail}",
        field="address",
        remedy="choose another port, or port 0 for a free one",
    )
