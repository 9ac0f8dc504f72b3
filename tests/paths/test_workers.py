"""Several gateway processes at one address, and how a gateway leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from core.errors import BadEnvironment
from core.role_server import check_free
from core.rpc import CHANNEL_OPTIONS
from deploy.local.children import end, same_python
from deploy.local.ports import free_ports
from gateway.config import GatewayConfig
from gateway.workers import Workers, create_gateway
from tests.paths.conftest import SECONDS, Client, Family
from trireme.v1 import ranking_pb2

WORKERS = 2
# A process that starts on a busy machine takes its time.
PATIENCE = 90.0
TEXTS = {f"doc-{number}": f"ship number {number}" for number in range(6)}
# So many connections all meet one of two processes once in 30,000 runs.
CONNECTIONS = 16
HTTP_REQUESTS = "trireme_gateway_http_requests_total"
SEARCHED = "trireme_gateway_calls_total"
LIMIT = "trireme_gateway_admission_limit"
NO_RERANK = ranking_pb2.Rerank(enabled=False)


class Visitor(Client):
    """A client with a connection of its own."""

    def __init__(self, address: str) -> None:
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.aio.insecure_channel(address, options)

    async def health(self) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        return int(reply.status)


@asynccontextmanager
async def visitors(address: str, count: int = CONNECTIONS) -> AsyncIterator[list[Visitor]]:
    found = [Visitor(address) for _ in range(count)]
    yield found
    await asyncio.gather(*(each.channel.close() for each in found))


@pytest.fixture(scope="module")
def config(family: Family) -> GatewayConfig:
    """A second gateway in front of the family's shards, with two workers."""
    roles = family.cluster.addresses
    return GatewayConfig(
        address="127.0.0.1:0",
        shards=tuple(roles[name] for name in roles if name.startswith("shard")),
        indexer_address=roles["indexer"],
        triton_address=family.triton.address,
        model_directory=family.triton.model_directory,
        workers=WORKERS,
        http_address="127.0.0.1:0",
    )


@pytest_asyncio.fixture(scope="module")
async def workers(config: GatewayConfig) -> AsyncIterator[Workers]:
    running = await create_gateway(config)
    assert isinstance(running, Workers)
    await running.start()
    yield running
    await running.stop(5.0)


@pytest_asyncio.fixture
async def filled(family: Family, collection: str) -> str:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "ship", min_position=position)
    return collection


def samples(workers: Workers, name: str) -> dict[str, float]:
    """The sum of a metric's samples per worker, of what the common page shows."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(workers.registry).decode()):
        for sample in family.samples:
            if sample.name == name:
                worker = sample.labels.get("worker", "")
                found[worker] = found.get(worker, 0.0) + sample.value
    return found


async def test_every_worker_opens_the_http_doors(workers: Workers) -> None:
    url = f"http://{workers.http_address}/health"
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(CONNECTIONS):
            async with session.get(url) as reply:
                assert reply.status == 200

    counted = await asyncio.to_thread(samples, workers, HTTP_REQUESTS)
    assert len(counted) == WORKERS
    assert sum(counted.values()) == CONNECTIONS


def page(port: int) -> str:
    """The metrics page of a process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        text: str = reply.read().decode()
    return text


async def test_every_worker_answers_at_the_one_address_and_shows_on_the_one_page(
    workers: Workers, filled: str
) -> None:
    async with visitors(workers.address) as all_visitors:
        replies = await asyncio.gather(
            *(each.search(filled, "ship", rerank=NO_RERANK) for each in all_visitors)
        )

    assert all(len(reply.hits) == len(TEXTS) for reply in replies)
    calls = samples(workers, SEARCHED)
    assert set(calls) == {"0", "1"}
    assert sum(calls.values()) >= CONNECTIONS
    assert all(calls.values())


async def test_a_walk_over_pages_goes_on_at_any_worker(workers: Workers, filled: str) -> None:
    async with visitors(workers.address) as all_visitors:
        first = await all_visitors[0].search(filled, "ship", page_size=2)
        second = [
            await each.search(filled, "ship", page_size=2, page_token=first.next_page_token)
            for each in all_visitors
        ]

    assert len({tuple(hit.document.id for hit in page.hits) for page in second}) == 1
    assert not {hit.document.id for hit in second[0].hits} & {h.document.id for h in first.hits}


async def test_a_worker_that_dies_is_started_again_and_the_others_go_on(
    workers: Workers, filled: str
) -> None:
    before = workers.pids
    async with visitors(workers.address) as all_visitors:
        for each in all_visitors:
            await each.search(filled, "ship", rerank=NO_RERANK)
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while workers.pids == before:
                await asyncio.sleep(0.01)
            while set(await asyncio.to_thread(samples, workers, LIMIT)) != {"0", "1"}:
                pass
        for each in all_visitors:
            reply = await each.search(filled, "ship", rerank=NO_RERANK)
            assert len(reply.hits) == len(TEXTS)

    assert workers.pids[1] == before[1]
    assert samples(workers, "trireme_gateway_worker_restarts_total") == {"": 1}


async def test_after_the_end_no_worker_is_left_and_the_address_is_free(
    config: GatewayConfig,
) -> None:
    running = Workers(config)
    await running.start()
    pids = running.pids

    await running.retire()
    await running.stop(5.0)

    check_free(running.address)
    assert len(pids) == WORKERS
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_worker_that_cannot_start_ends_the_start(config: GatewayConfig) -> None:
    running = Workers(replace(config, page_token_key_file=Path("/does/not/exist")))

    with pytest.raises(BadEnvironment, match="ended with status 1"):
        await running.start()

    await running.stop(5.0)


async def test_an_address_in_use_is_refused(config: GatewayConfig, workers: Workers) -> None:
    with pytest.raises(BadEnvironment, match="in use"):
        Workers(replace(config, address=workers.address))


@asynccontextmanager
async def process(
    config: GatewayConfig, folder: Path, **settings: object
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The gateway as a program, ready, and its address."""
    file, address_file = folder / "gateway.yaml", folder / "address"
    values = {
        "address": config.address,
        "shards": list(config.shards),
        "indexer_address": config.indexer_address,
        "triton_address": config.triton_address,
        "model_directory": str(config.model_directory),
        "address_file": str(address_file),
        **settings,
    }
    file.write_text(yaml.safe_dump({"gateway": values}))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--config", file, env=same_python(os.environ)
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not address_file.exists():
                await asyncio.sleep(0.01)
        yield running, address_file.read_text()
    finally:
        if running.returncode is None:
            await end(running, 5.0)


async def test_workers_end_with_a_parent_that_is_killed(
    config: GatewayConfig, tmp_path: Path
) -> None:
    async with process(config, tmp_path, workers=WORKERS) as (parent, _):
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == WORKERS
        parent.kill()
        await parent.wait()

        async with asyncio.timeout(PATIENCE):
            while any(Path(f"/proc/{pid}").exists() for pid in children):
                await asyncio.sleep(0.01)


async def test_a_gateway_that_is_told_to_stop_says_so_goes_on_answering_and_then_ends(
    config: GatewayConfig, filled: str, tmp_path: Path
) -> None:
    async with (
        process(config, tmp_path, drain_pause_seconds=3.0) as (gateway, address),
        visitors(address, 2) as (known, new),
    ):
        serving = health_pb2.HealthCheckResponse.SERVING
        assert await known.health() == serving

        gateway.terminate()
        while await known.health() == serving:
            pass
        replies = [await each.search(filled, "ship") for each in (known, new)]

        assert all(len(reply.hits) == len(TEXTS) for reply in replies)
        assert await gateway.wait() == 0


async def test_a_search_under_way_is_answered_before_the_end(
    family: Family, config: GatewayConfig, filled: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1, "127.0.0.1")
    settings = {"drain_seconds": SECONDS, "metrics_address": f"127.0.0.1:{port}"}
    async with (
        process(config, tmp_path, **settings) as (gateway, address),
        visitors(address, 1) as (visitor,),
    ):
        family.triton.set_fault("hang")
        search = asyncio.create_task(visitor.search(filled, "a new ship", seconds=3.0))
        async with asyncio.timeout(PATIENCE):
            while "calls_in_flight 1.0" not in await asyncio.to_thread(page, port):
                pass
        gateway.terminate()

        reply = await search
        assert reply.hits
        assert reply.degraded
        assert await gateway.wait() == 0
