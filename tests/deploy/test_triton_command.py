"""Triton takes the command line of the chart, and answers the probes of Kubernetes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.children import Children, end
from deploy.local.ports import free_ports
from deploy.local.triton import copy_backends
from deploy.local.wheel import find_wheel
from tests.deploy.rendering import container, rendered

START_SECONDS = 120.0


@pytest.mark.triton
async def test_the_real_server_starts_as_the_chart_says_and_is_healthy(tmp_path: Path) -> None:
    wheel = find_wheel()
    copy_backends(wheel, tmp_path / "backends")
    repository = tmp_path / "models"
    repository.mkdir()
    grpc_port, metrics_port = free_ports(2, "127.0.0.1")
    here = {
        "--model-repository": repository,
        "--grpc-address": "127.0.0.1",
        "--metrics-address": "127.0.0.1",
        "--grpc-port": grpc_port,
        "--metrics-port": metrics_port,
    }
    arguments = [
        f"{name}={here[name]}" if (name := option.partition("=")[0]) in here else option
        for option in container(rendered("default").workload("triton"))["args"]
    ]
    command = [wheel.server, *arguments, f"--backend-directory={tmp_path / 'backends'}"]
    children = await Children.create()
    try:
        process = await children.spawn(command, os.environ | wheel.environment(), tmp_path / "log")
        serving = asyncio.create_task(health_of(f"127.0.0.1:{grpc_port}"))
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)

        assert not ended.done(), (tmp_path / "log").read_text()
        assert serving.result() == health_pb2.HealthCheckResponse.SERVING
        assert await end(process, START_SECONDS) == 0
    finally:
        await children.stop()


async def health_of(address: str) -> int:
    """What the health service says once somebody answers; it is what a gRPC probe asks."""
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = await check(
            health_pb2.HealthCheckRequest(), timeout=START_SECONDS, wait_for_ready=True
        )
        return int(reply.status)
