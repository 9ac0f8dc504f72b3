"""How every role serves and calls gRPC: options, health, reflection, error details."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from core.deadline import Deadline
from core.errors import BadEnvironment, Overloaded, TriremeError

MAX_RECEIVE_BYTES = 16 * 1024 * 1024
ERROR_DOMAIN = "trireme"
_STATUS_KEY = "grpc-status-details-bin"
_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# The three keepalive settings belong together: without `ping_timeout_ms` a stopped peer is noticed
# only after a minute. The server must allow pings as often as clients send them.
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.lb_policy_name", "round_robin"),
)
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


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`, a DNS name or a `unix:` path, with the options all roles share."""
    return grpc.aio.insecure_channel(address, options=list(CHANNEL_OPTIONS))


def deadline_of(
    context: grpc.aio.ServicerContext[Any, Any], *, default_seconds: float, longest_seconds: float
) -> Deadline:
    """The caller's deadline, `default_seconds` if it set none, never beyond `longest_seconds`."""
    given = context.time_remaining()
    seconds = default_seconds if given is None else min(given, longest_seconds)
    return Deadline.after(seconds)


def status_of(error: TriremeError) -> grpc.Status:
    """An error as a gRPC status with ErrorInfo and, if it was shed, RetryInfo (AIP-193)."""
    metadata = {key: value for key in ("field", "remedy") if (value := getattr(error, key))}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_seconds * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.code.name), message=str(error), details=details
    )
    converted: grpc.Status = rpc_status.to_status(status)
    return converted


def reason_of(error: grpc.RpcError) -> str:
    """The machine-readable reason of a failed call, empty if it carries none of ours."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return str(info.reason)
    return ""


def lost(why: str) -> grpc.aio.AioRpcError:
    """What gRPC itself raises for a call whose peer has gone."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=why)


def packed_status(status: grpc.Status) -> bytes:
    """The google.rpc.Status in one of `status_of`, serialised."""
    ((_, packed),) = status.trailing_metadata
    return bytes(packed)


def error_of(packed: bytes) -> grpc.aio.AioRpcError:
    """The failure of a call from its serialised google.rpc.Status."""
    status = status_pb2.Status.FromString(packed)
    trailing = grpc.aio.Metadata((_STATUS_KEY, packed))
    code = _CODES[status.code]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=status.message)


class RoleServer:
    """One role's gRPC server: `await create`, `start()`, `stop(grace_seconds)`.

    Health is NOT_SERVING until `ready()` is called. Reflection is always on.
    """

    def __init__(self, server: grpc.aio.Server, services: Sequence[str], port: int) -> None:
        self._server = server
        self._services = services
        self._health = health.aio.HealthServicer()
        self.port = port
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)

    @classmethod
    def create(
        cls,
        address: str,
        add_services: AddServices,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> RoleServer:
        """Binds `host:port` (port 0 picks a free one); raises BadEnvironment if it is in use."""
        server = grpc.aio.server(interceptors=list(interceptors), options=list(SERVER_OPTIONS))
        services = add_services(server)
        check_free(address)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise _cannot_listen(address, str(error)) from error
        if port == 0:
            raise _cannot_listen(address, "refused")
        return cls(server, services, port)

    async def start(self) -> None:
        """Starts to answer, as not ready."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()

    async def ready(self) -> None:
        """Tells health checks that this role can do its work."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Says NOT_SERVING, lets calls in flight end for up to `grace_seconds`, then stops."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(grace_seconds)

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self._services):
            await self._health.set(service, status)


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


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
