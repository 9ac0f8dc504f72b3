"""What operators rely on: health, reflection, metrics, refusals at start."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families

from core.rpc import open_channel
from tests.paths.conftest import SECONDS, Family

PUBLIC = {
    "trireme.v1.SearchService",
    "trireme.v1.DocumentService",
    "trireme.v1.CollectionService",
    "trireme.v1.AliasService",
    "trireme.v1.OperationsService",
    "trireme.v1.InferenceService",
}
ROLES = ("gateway", "indexer", "shard-0", "shard-1")


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_tells_its_health(family: Family, role: str) -> None:
    async with open_channel(family.cluster.addresses[role]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        checked = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        watched = await watch.read()
        watch.cancel()

    assert checked.status == watched.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_can_be_asked_for_its_services(family: Family, role: str) -> None:
    address = family.cluster.addresses[role]

    def services() -> set[str]:
        with grpc.insecure_channel(address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    offered = await asyncio.to_thread(services)

    expected = {
        "gateway": PUBLIC,
        "indexer": PUBLIC - {"trireme.v1.SearchService", "trireme.v1.InferenceService"},
    }.get(role, {"trireme.shard.v1.ShardService"})
    assert expected <= offered
    assert "grpc.health.v1.Health" in offered


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_has_a_metrics_page(family: Family, collection: str, role: str) -> None:
    position = await family.put(collection, a="some words")
    await family.search(collection, "words", min_position=position)
    url = f"http://{family.cluster.metrics_addresses[role]}/metrics"

    def page() -> str:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            return str(response.read().decode())

    families = {f.name: f for f in text_string_to_metric_families(await asyncio.to_thread(page))}

    kind = role.partition("-")[0]
    calls = families[f"trireme_{kind}_calls"]
    assert any(sample.labels.get("code") == "OK" and sample.value > 0 for sample in calls.samples)
    assert all(name.startswith(("trireme_", "python_", "process_")) for name in families)


async def up(state: Path, *options: str) -> tuple[int, str]:
    """Runs `trireme up` until it ends by itself; returns its exit code and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.cli",
        "up",
        "--state",
        str(state),
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, " ".join(errors.decode().split())


@pytest.mark.parametrize("option", ["--port", "--http-port"])
async def test_a_port_in_use_is_said_plainly(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, errors = await up(tmp_path / "state", "--port", "0", option, str(port))

    assert code == 1
    assert f"127.0.0.1:{port}" in errors
    assert "already in use" in errors
    assert "Traceback" not in errors


async def test_state_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "format.json").write_text(json.dumps({"format": 99, "shards": 2}))

    code, errors = await up(state, "--port", "0")

    assert code == 1
    assert "has format 99" in errors
    assert "NEWER_FORMAT" in errors


async def test_a_state_directory_in_use_is_refused(family: Family) -> None:
    code, errors = await up(family.cluster.config.state, "--port", "0")

    assert code == 1
    assert "is in use by the cluster of process" in errors
