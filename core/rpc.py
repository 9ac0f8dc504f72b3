"""How every role calls gRPC: options, deadlines, error details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from core.deadline import Deadline
from core.errors import Overloaded, TriremeError
from core.security.channel import RenewingChannel
from core.security.tls import NO_TLS, TlsSettings

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
    # Also how long a peer may take to speak at first: a busy one needs more than 100 ms.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A replica that comes back has another address; the default would keep it away for 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.lb_policy_name", "round_robin"),
)


def open_channel(
    address: str,
    tls: TlsSettings = NO_TLS,
    options: Sequence[tuple[str, int | str]] = CHANNEL_OPTIONS,
) -> grpc.aio.Channel:
    """A channel to `host:port`, a DNS name or a `unix:` path, with the options all roles share.

    With TLS it follows the certificates as they change, without a call that fails.
    """
    if tls.calls:
        return RenewingChannel(address, tls, options)
    return grpc.aio.insecure_channel(address, options=list(options))


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
    assert isinstance(packed, bytes)
    return packed


def error_of(packed: bytes) -> grpc.aio.AioRpcError:
    """The failure of a call from its serialised google.rpc.Status."""
    status = status_pb2.Status.FromString(packed)
    trailing = grpc.aio.Metadata((_STATUS_KEY, packed))
    code = _CODES[status.code]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=status.message)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
