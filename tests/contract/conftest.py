"""The servers that contract tests run against: Tritons fake and real, databases small and large."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder
from core.errors import BadEnvironment
from core.triton import TritonClient
from deploy.local.children import Children
from deploy.local.cluster import MODEL_REPOSITORY, MODELS
from deploy.local.ports import free_ports
from deploy.local.triton import TritonConfig, TritonServer, exported_models
from tests.fakes.triton import FakeTriton
from tests.servers import postgresql
from tests.servers.postgresql import PostgresServer


@dataclass(frozen=True)
class Served:
    """A Triton, fake or real, with a bi_encoder and a cross_encoder; `pid` is 0 for the fake."""

    address: str
    model_directory: Path
    pid: int = 0


def missing(reason: str) -> NoReturn:
    """Skips a test that lacks a real component; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def triton_config(state: Path) -> TritonConfig:
    """Settings of a Triton over the exported models; skips if there are none."""
    if {model.name for model in exported_models(MODEL_REPOSITORY)} < set(MODELS):
        missing("the models are not exported: run `trireme models export`")
    grpc_port, metrics_port = free_ports(2, "127.0.0.1")
    return TritonConfig(MODEL_REPOSITORY, state, grpc_port, metrics_port, state / "triton.log")


@pytest.fixture(scope="session")
async def real_triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The Triton of the wheel over the project's models, started once."""
    config = triton_config(tmp_path_factory.mktemp("triton"))
    async with AsyncExitStack() as stack:
        children = await Children.create()
        stack.push_async_callback(children.stop)
        try:
            server = TritonServer.create(config, children)
        except BadEnvironment as error:
            missing(str(error))
        await server.start()
        stack.push_async_callback(server.stop, 10.0)
        assert server.process is not None
        yield Served(server.address, MODEL_REPOSITORY, server.process.pid)


@pytest.fixture(scope="session")
async def fake_triton() -> AsyncIterator[Served]:
    """The fake, without faults."""
    async with FakeTriton() as fake:
        yield Served(fake.address, fake.model_directory)


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.triton)])
def served(request: pytest.FixtureRequest) -> Served:
    """Each Triton in turn."""
    found = request.getfixturevalue(f"{request.param}_triton")
    assert isinstance(found, Served)
    return found


@pytest.fixture
async def triton(served: Served) -> AsyncIterator[TritonClient]:
    """A client of the Triton under test."""
    client = TritonClient.create(served.address)
    await client.start()
    yield client
    await client.stop(0)


@pytest.fixture
async def encoder(served: Served, triton: TritonClient) -> Encoder:
    """Its bi-encoder."""
    return await Encoder.create(
        triton, "bi_encoder", "", served.model_directory, Deadline.after(30)
    )


@pytest.fixture
async def cross_encoder(served: Served, triton: TritonClient) -> CrossEncoder:
    """Its cross-encoder."""
    return await CrossEncoder.create(
        triton, "cross_encoder", "", served.model_directory, Deadline.after(30)
    )


@pytest.fixture(scope="session")
def wheel_postgresql() -> Iterator[PostgresServer]:
    """The PostgreSQL of the wheel, started once."""
    yield from _started("wheel")


@pytest.fixture(scope="session")
def system_postgresql() -> Iterator[PostgresServer]:
    """The PostgreSQL of this machine, started once."""
    yield from _started("system")


def _started(source: str) -> Iterator[PostgresServer]:
    programs = postgresql.SOURCES[source]()
    if programs is None:
        missing(f"there is no PostgreSQL from the {source} here")
    with postgresql.running(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "wheel", "system"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server = request.getfixturevalue(f"{request.param}_postgresql")
    assert isinstance(server, PostgresServer)
    return server.new_database()
