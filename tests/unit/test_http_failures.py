"""Failures of calls as HTTP: every code has a status, and every door its own shape."""

from __future__ import annotations

import grpc
import pytest
from aiohttp import web
from google.rpc import code_pb2

from core.errors import (
    CredentialsMissing,
    InvalidInput,
    NotFound,
    OutOfTime,
    Overloaded,
    PermissionDenied,
    ShardUnavailable,
    TriremeError,
)
from core.rpc import error_of, lost, packed_status, status_of
from gateway.http.failure_wire import (
    HTTP_STATUSES,
    cohere_shape,
    failure_of,
    google_shape,
    openai_shape,
    retry_headers,
)

EMPTY = InvalidInput("FIELD_REQUIRED", "is empty", field="texts[3]", remedy="leave it out")


def as_called(error: TriremeError) -> grpc.aio.AioRpcError:
    """The error as a client of the gRPC server gets it."""
    return error_of(packed_status(status_of(error)))


@pytest.mark.parametrize(
    ("error", "http_status", "reason"),
    [
        (EMPTY, 400, "FIELD_REQUIRED"),
        (CredentialsMissing("who is it", remedy="say so"), 401, "CREDENTIALS_MISSING"),
        (PermissionDenied("not you"), 403, "PERMISSION_DENIED"),
        (NotFound("MODEL_NOT_FOUND", "no such model"), 404, "MODEL_NOT_FOUND"),
        (Overloaded("full", retry_after_seconds=0.1), 429, "OVERLOADED"),
        (TriremeError("ours"), 500, "INTERNAL"),
        (ShardUnavailable("away"), 503, "SHARD_UNAVAILABLE"),
        (OutOfTime("late"), 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_an_error_is_the_same_over_both_protocols(
    error: TriremeError, http_status: int, reason: str
) -> None:
    raised, called = failure_of(error), failure_of(as_called(error))

    assert raised == called
    assert (called.http_status, called.reason, called.message) == (http_status, reason, str(error))


def test_every_code_but_those_that_are_our_fault_is_mapped() -> None:
    ours = {code_pb2.OK, code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DATA_LOSS}

    assert set(HTTP_STATUSES) == set(code_pb2.Code.values()) - ours
    assert all(400 <= status < 600 for status in HTTP_STATUSES.values())


def test_a_call_that_ended_without_details_still_says_what_is_known() -> None:
    failure = failure_of(lost("the gateway is stopping"))

    assert (failure.http_status, failure.message) == (503, "the gateway is stopping")


def test_a_foreign_exception_tells_nothing_of_itself() -> None:
    failure = failure_of(ValueError("/etc/secret: line 3"))

    assert failure.http_status == 500
    assert "secret" not in str(google_shape(failure))


def test_a_body_that_is_too_large_has_a_reason() -> None:
    failure = failure_of(web.HTTPRequestEntityTooLarge(max_size=10, actual_size=11))

    assert (failure.http_status, failure.reason) == (413, "TOO_LONG")


def test_whoever_is_shed_is_told_when_to_come_back() -> None:
    waits = failure_of(as_called(Overloaded("full", retry_after_seconds=1.2)))

    assert retry_headers(waits) == {"Retry-After": "2", "retry-after-ms": "1200"}
    assert retry_headers(failure_of(EMPTY)) == {}


def test_a_field_is_called_as_the_door_calls_it() -> None:
    names = {"texts": "input", "encoder": "model"}
    wrong_version = InvalidInput("MALFORMED", "is no number", field="encoder.version")

    renamed = failure_of(EMPTY).renamed(names)
    model = failure_of(wrong_version).renamed(names)

    assert (renamed.field, renamed.message) == ("input[3]", "input[3]: is empty; leave it out")
    assert (model.field, model.message) == ("model", "model: is no number")
    assert failure_of(EMPTY).renamed({"text": "x"}).field == "texts[3]"


def test_the_shapes_are_those_of_google_openai_and_cohere() -> None:
    failure = failure_of(EMPTY)

    google = google_shape(failure)["error"]
    assert (google["code"], google["status"]) == (400, "INVALID_ARGUMENT")
    (detail,) = google["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (detail["reason"], detail["domain"]) == ("FIELD_REQUIRED", "trireme")
    assert openai_shape(failure) == {
        "error": {
            "message": str(EMPTY),
            "type": "invalid_request_error",
            "param": "texts[3]",
            "code": "FIELD_REQUIRED",
        }
    }
    assert cohere_shape(failure) == {"message": str(EMPTY), "reason": "FIELD_REQUIRED"}
