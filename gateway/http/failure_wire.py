"""A failed call as HTTP: the status line, what to wait, and a body in the shape of each door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from core.errors import InvalidInput, OutOfTime, TriremeError
from core.rpc import packed_status, status_of
from gateway.http.body import MAX_BODY_BYTES

# As google.rpc.Code says they are mapped.
HTTP_STATUSES = {
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ABORTED: 409,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.CANCELLED: 499,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DEADLINE_EXCEEDED: 504,
}
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed. `status` is the whole of it; the rest is what doors need of it."""

    http_status: int
    status: status_pb2.Status
    message: str
    reason: str = ""
    field: str = ""
    retry_after_seconds: float | None = None

    def renamed(self, names: Mapping[str, str]) -> Failure:
        """The same with a field called as this door calls it: `names` by those of the proto."""
        for own, theirs in names.items():
            if self.field == own or self.field.startswith((f"{own}[", f"{own}.")):
                field = theirs + ("" if own.endswith("encoder") else self.field[len(own) :])
                message = field + self.message.removeprefix(self.field)
                return replace(self, field=field, message=message)
        return self


def failure_of(error: Exception) -> Failure:
    """What is known of an exception that a door raised; foreign ones say nothing of themselves."""
    if isinstance(error, grpc.aio.AioRpcError):
        failure = _of_status(_status_of_call(error))
        if failure.status.code == code_pb2.DEADLINE_EXCEEDED and not failure.reason:
            # The clock ran out before the gateway could say so itself.
            return failure_of(OutOfTime("the deadline passed", remedy="allow more time"))
        return failure
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    ours = (
        error if isinstance(error, TriremeError) else TriremeError("something failed on our side")
    )
    return _of_status(_parsed(status_of(ours)))


def google_shape(failure: Failure) -> dict[str, Any]:
    """A google.rpc.Status in the JSON that Google's own APIs answer errors with."""
    details = json_format.MessageToDict(failure.status).get("details", [])
    return {
        "error": {
            "code": failure.http_status,
            "status": code_pb2.Code.Name(failure.status.code),
            "message": failure.message,
            "details": details,
        }
    }


def openai_shape(failure: Failure) -> dict[str, Any]:
    """As OpenAI's clients read it; `code` is our reason."""
    other = "invalid_request_error" if failure.http_status < 500 else "server_error"
    return {
        "error": {
            "message": failure.message,
            "type": _OPENAI_TYPES.get(failure.http_status, other),
            "param": failure.field or None,
            "code": failure.reason or None,
        }
    }


def cohere_shape(failure: Failure) -> dict[str, Any]:
    """As Cohere's clients read it, with our reason beside the message."""
    return {"message": failure.message, "reason": failure.reason}


def retry_headers(failure: Failure) -> dict[str, str]:
    """When to come back, in whole seconds and, for clients that know it, in milliseconds."""
    if failure.retry_after_seconds is None:
        return {}
    return {
        "Retry-After": str(math.ceil(failure.retry_after_seconds)),
        "retry-after-ms": str(math.ceil(failure.retry_after_seconds * 1000)),
    }


def _of_status(status: status_pb2.Status) -> Failure:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for wanted in (info, retry):
            if detail.Is(wanted.DESCRIPTOR):
                detail.Unpack(wanted)
    waits = retry.HasField("retry_delay")
    return Failure(
        http_status=HTTP_STATUSES.get(status.code, 500),
        status=status,
        message=status.message,
        reason=info.reason,
        field=info.metadata.get("field", ""),
        retry_after_seconds=retry.retry_delay.ToTimedelta().total_seconds() if waits else None,
    )


def _of_http(error: web.HTTPException) -> Failure:
    """What aiohttp itself refuses: no such path, no such method there, too large a body."""
    if error.status == 413:
        too_long = InvalidInput(
            "TOO_LONG",
            f"has more than {MAX_BODY_BYTES} bytes",
            field="body",
            remedy="send less at a time",
        )
        return replace(_of_status(_parsed(status_of(too_long))), http_status=413)
    code = code_pb2.NOT_FOUND if error.status == 404 else code_pb2.INVALID_ARGUMENT
    status = status_pb2.Status(code=code, message=f"{error.reason}; docs/http.md lists the doors")
    return replace(_of_status(status), http_status=error.status)


def _status_of_call(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status that came in the trailers, else code and text alone."""
    status = rpc_status.from_call(error)
    if status is not None:
        return status
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.code().name), message=error.details() or ""
    )


def _parsed(status: Any) -> status_pb2.Status:
    """A `grpc.Status` that was made for a handler, read back."""
    return status_pb2.Status.FromString(packed_status(status))
