"""The service config for clients names what there is, and repeats only what may be repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from trireme.v1 import collection_pb2, document_pb2, inference_pb2, search_pb2

FILE = Path(__file__).resolve().parents[2] / "docs/operations/service-config.json"
FILES = (search_pb2, inference_pb2, document_pb2, collection_pb2)
# gRPC cuts larger numbers of attempts.
MOST_ATTEMPTS = 5


def methods() -> dict[str, MethodDescriptor]:
    """Every method of these services by `service/method`."""
    return {
        f"{service.full_name}/{method.name}": method
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def policies() -> dict[str, dict[str, Any]]:
    """The retry policy of each method that has one."""
    return {
        f"{name['service']}/{name['method']}": entry["retryPolicy"]
        for entry in json.loads(FILE.read_text())["methodConfig"]
        for name in entry["name"]
    }


def test_only_single_calls_that_there_are_are_repeated() -> None:
    known = methods()

    assert set(policies()) <= set(known)
    assert not any(known[name].client_streaming for name in policies())


def test_an_overload_is_not_made_worse_by_repeating() -> None:
    for policy in policies().values():
        assert policy["retryableStatusCodes"] == [grpc.StatusCode.UNAVAILABLE.name]
        assert 2 <= policy["maxAttempts"] <= MOST_ATTEMPTS


def test_what_is_written_again_is_written_once() -> None:
    known = methods()
    writes = {name for name in policies() if name.startswith("trireme.v1.DocumentService/")}
    writes -= {"trireme.v1.DocumentService/GetDocument"}

    assert writes
    assert all("request_id" in known[name].input_type.fields_by_name for name in writes)
