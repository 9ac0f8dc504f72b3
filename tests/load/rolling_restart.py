"""Every role restarted one after the other under load: what searches and writes notice.

    python -m tests.load.rolling_restart [--rate 30]

Two gateways, two replicas of each of two shards, one indexer, one Triton. Every process is told to
stop (SIGTERM), drains, ends and is started again; then the next. Clients balance over both gateways
and repeat calls by docs/operations/service-config.json, as any gRPC client can. Exits with 1 if
a search or a write failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.rpc import CHANNEL_OPTIONS, open_channel
from deploy.local.children import Children
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.local.ports import free_ports
from deploy.local.role import RoleProcess, RoleSpec
from deploy.local.supervisor import Supervisor
from tests.load.report import rounded
from tests.load.steady_load import Load, fill

SERVICE_CONFIG = Path(__file__).resolve().parents[2] / "docs/operations/service-config.json"
DRAIN = {"drain_pause_seconds": 1.0, "drain_seconds": 5.0}
# Before the next one is stopped; what Kubernetes calls minReadySeconds.
SETTLE_SECONDS = 3.0
POLL_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=30, help="searches per second")
    figures = asyncio.run(_measure(parser.parse_args().rate))
    print(json.dumps(rounded(figures), indent=2))
    sys.exit(bool(figures["searches"]["failed"] or figures["writes"]["failed"]))


async def _measure(rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        config = ClusterConfig(
            state=Path(folder) / "state",
            replicas=2,
            settings=dict.fromkeys(("gateway", "shard", "indexer"), DRAIN),
        )
        cluster = await Cluster.create(config)
        try:
            await cluster.start()
            async with _second_gateway(cluster, Path(folder)) as second:
                addresses = f"ipv4:{cluster.address},{second.spec.address}"
                options = [*CHANNEL_OPTIONS, ("grpc.service_config", SERVICE_CONFIG.read_text())]
                async with grpc.aio.insecure_channel(addresses, options) as channel:
                    load = Load(channel, rate)
                    await fill(channel)
                    restarted = await _restart_all(cluster, second, load)
        finally:
            await cluster.stop(10.0)
    return {
        "restarted": restarted,
        "searches": load.searches.told(),
        "writes": load.writes.told(),
    }


async def _restart_all(cluster: Cluster, second: RoleProcess, load: Load) -> dict[str, float]:
    """Restarts every process while the load runs; the seconds until each was back."""
    roles: dict[str, Callable[[], int]] = {
        name: partial(_pid_of, cluster, name) for name in cluster.pids
    }
    roles[second.name] = lambda: _pid(second.process)
    addresses = {
        **cluster.addresses,
        "triton": cluster.triton_address,
        second.name: second.spec.address,
    }
    running = asyncio.create_task(load.run())
    await asyncio.sleep(SETTLE_SECONDS)
    back: dict[str, float] = {}
    for name, pid in roles.items():
        load.doing = f"restart of {name}"
        began = time.monotonic()
        await _restart(pid, addresses[name])
        back[name] = time.monotonic() - began
        await asyncio.sleep(SETTLE_SECONDS)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return back


async def _restart(pid: Callable[[], int], address: str) -> None:
    """Tells a process to stop and returns once another one serves in its place."""
    old = pid()
    os.kill(old, signal.SIGTERM)
    while pid() == old:
        await asyncio.sleep(POLL_SECONDS)
    async with open_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        while True:
            reply = await health.Check(request, wait_for_ready=True)
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(POLL_SECONDS)


def _pid_of(cluster: Cluster, name: str) -> int:
    return cluster.pids[name]


def _pid(process: asyncio.subprocess.Process | None) -> int:
    assert process is not None
    return process.pid


@asynccontextmanager
async def _second_gateway(cluster: Cluster, folder: Path) -> AsyncIterator[RoleProcess]:
    """One more gateway in front of the cluster's shards, supervised as the first one is."""
    children = await Children.create()
    addresses = cluster.addresses
    settings = {
        "shards": [address for name, address in addresses.items() if name.startswith("shard")],
        "indexer_address": addresses["indexer"],
        "triton_address": cluster.triton_address,
        "model_directory": str(cluster.config.model_directory.absolute()),
        **DRAIN,
    }
    (port,) = free_ports(1, "127.0.0.1")
    spec = RoleSpec(
        name="gateway-1",
        module="gateway",
        address=f"127.0.0.1:{port}",
        settings=settings,
        config=folder / "gateway-1.yaml",
        log=folder / "gateway-1.log",
        start_seconds=cluster.config.start_seconds,
    )
    supervisor = Supervisor(role := RoleProcess(spec, children), lambda _: None)
    try:
        await supervisor.start()
        yield role
    finally:
        await supervisor.stop(10.0)
        await children.stop()


if __name__ == "__main__":
    main()
