"""How throughput grows with the gateway's worker processes.

    python -m tests.load.workers [--workers 1,2] [--clients 16]

Hybrid searches of a small collection, without reranking, whose query embeddings are cached: the
gateway is nearly all that works. The clients, in a process of their own, ask one query after
another over a connection each. They and the shard need cores as well, so that throughput can grow
only as far as there are cores for all: `of_what_the_cores_allow` is the throughput over that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil

from core.rpc import CHANNEL_OPTIONS, open_channel, reason_of
from deploy.local.cluster import Cluster, ClusterConfig
from tests.fakes.triton import FakeTriton
from tests.load.report import rounded
from tests.load.steady_load import SEARCH_SECONDS, fill, search_request
from trireme.v1 import search_pb2_grpc

SECONDS, WARM_UP_SECONDS = 10.0, 3.0
QUERIES = 100
AGAIN_SECONDS = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", default="1,2", help="numbers of workers to compare")
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    counts = [int(count) for count in options.workers.split(",")]
    rows = {count: asyncio.run(_measure(count, options.clients)) for count in counts}
    first = rows[counts[0]]["per_second"]
    growth = {count: row["per_second"] / first for count, row in rows.items()}
    figures = {"cores": os.cpu_count(), "workers": rows, "throughput_ratio": growth}
    print(json.dumps(rounded(figures), indent=2))


async def _measure(workers: int, clients: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        async with FakeTriton() as triton:
            config = ClusterConfig(
                state=Path(folder) / "state",
                shards=1,
                triton_address=triton.address,
                model_directory=triton.model_directory,
                settings={"gateway": {"workers": workers}},
            )
            cluster = await Cluster.create(config)
            try:
                await cluster.start()
                async with open_channel(cluster.address) as channel:
                    await fill(channel)
                await _asked(cluster.address, clients, WARM_UP_SECONDS)
                return await _timed(cluster, clients)
            finally:
                await cluster.stop(10.0)


async def _timed(cluster: Cluster, clients: int) -> dict[str, Any]:
    before = _cpu(cluster)
    answered, taken, spent = await _asked(cluster.address, clients, SECONDS)
    cpu = {role: seconds - before[role] for role, seconds in _cpu(cluster).items()}
    cpu["clients"] = spent
    per_query = {role: 1000 * seconds / answered for role, seconds in cpu.items()}
    possible = (os.cpu_count() or 1) * 1000 / sum(per_query.values())
    return {
        "per_second": answered / taken,
        "cpu_ms_per_query": per_query,
        "cores_used": {role: seconds / taken for role, seconds in cpu.items()},
        "of_what_the_cores_allow": answered / taken / possible,
    }


def _cpu(cluster: Cluster) -> Mapping[str, float]:
    """Processor seconds so far of each role, the gateway's workers included."""
    found = {}
    for role, pid in cluster.pids.items():
        parent = psutil.Process(pid)
        times = [each.cpu_times() for each in (parent, *parent.children())]
        found[role] = sum(each.user + each.system for each in times)
    return found


async def _asked(address: str, clients: int, seconds: float) -> tuple[int, float, float]:
    """Answers, the seconds that took, and the clients' processor seconds, from their process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        arguments = (address, clients, seconds)
        return await asyncio.to_thread(pool.apply, _ask_all, arguments)


def _ask_all(address: str, clients: int, seconds: float) -> tuple[int, float, float]:
    return asyncio.run(_clients(address, clients, seconds))


async def _clients(address: str, clients: int, seconds: float) -> tuple[int, float, float]:
    options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(clients)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    began, spent = time.monotonic(), time.process_time()
    answered = await asyncio.gather(*(_ask(channel, began + seconds) for channel in channels))
    taken, spent = time.monotonic() - began, time.process_time() - spent
    await asyncio.gather(*(channel.close() for channel in channels))
    return sum(answered), taken, spent


async def _ask(channel: grpc.aio.Channel, end: float) -> int:
    """Asks one query after another; how many were answered by `end`."""
    search: Any = search_pb2_grpc.SearchServiceStub(channel).Search
    answered = 0
    while time.monotonic() < end:
        try:
            await search(search_request(answered % QUERIES), timeout=SEARCH_SECONDS)
            answered += 1
        except grpc.aio.AioRpcError as error:
            if reason_of(error) != "OVERLOADED":
                raise
            await asyncio.sleep(AGAIN_SECONDS)
    return answered


if __name__ == "__main__":
    main()
