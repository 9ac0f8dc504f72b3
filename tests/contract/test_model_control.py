"""Models are loaded and unloaded beside each other, and callers of the others notice nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from core.deadline import Deadline
from core.encoding import Encoder
from core.errors import BadEnvironment, ModelNotLoaded, NotFound, TriremeError, TritonUnavailable
from core.open_models import OpenModels
from core.triton import TritonClient
from deploy.local.children import Children
from deploy.local.cluster import MODEL_REPOSITORY
from deploy.local.control import TritonControl
from deploy.local.ports import free_ports
from deploy.local.triton import TritonServer
from tests.contract.conftest import missing, triton_config
from tests.fakes.triton import FakeTriton

MODEL = "bi_encoder"
IDS = np.arange(1000, 1010, dtype=np.int32)


@dataclass(frozen=True)
class Running:
    """A Triton with version 1 of the model; `add` and `spoil` put another into its repository."""

    address: str
    model_directory: Path
    add: Callable[[str], None]
    spoil: Callable[[str], None]
    remove: Callable[[str], None]


def soon() -> Deadline:
    return Deadline.after(300)


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.triton)])
async def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """Each Triton in turn, with nothing else in it; every test leaves version 1 alone there."""
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            yield _fake(await stack.enter_async_context(FakeTriton()))
        else:
            yield await _real(stack, tmp_path_factory.mktemp("control"))


def _fake(fake: FakeTriton) -> Running:
    def add(version: str) -> None:
        fake.versions = (*fake.versions, version)

    def spoil(version: str) -> None:
        add(version)
        fake.broken.add(version)

    def remove(version: str) -> None:
        fake.versions = tuple(each for each in fake.versions if each != version)
        fake.broken.discard(version)

    return Running(fake.address, fake.model_directory, add, spoil, remove)


async def _real(stack: AsyncExitStack, directory: Path) -> Running:
    repository = directory / "models"
    config = replace(triton_config(directory), model_repository=repository)
    shutil.copytree(MODEL_REPOSITORY / MODEL, repository / MODEL)
    children = await Children.create()
    stack.push_async_callback(children.stop)
    try:
        server = TritonServer.create(config, children)
    except BadEnvironment as error:
        missing(str(error))
    await server.start()
    stack.push_async_callback(server.stop, 10.0)

    def add(version: str) -> None:
        shutil.copytree(repository / MODEL / "1", repository / MODEL / version)

    def spoil(version: str) -> None:
        (repository / MODEL / version).mkdir()
        (repository / MODEL / version / "model.pt").write_bytes(b"no archive")

    def remove(version: str) -> None:
        shutil.rmtree(repository / MODEL / version)

    return Running(server.address, repository, add, spoil, remove)


class Caller:
    """Embeds with version 1 all the time; `failures` holds what went wrong."""

    def __init__(self, encoder: Encoder) -> None:
        self.answers = 0
        self.failures: list[TriremeError] = []
        self._encoder = encoder
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self._encoder.encode([IDS], soon(), priority=1)
                self.answers += 1
            except TriremeError as error:
                self.failures.append(error)

    async def answered_once_more(self) -> None:
        """Returns after another answer; raises the first failure."""
        wanted = self.answers + 1
        while self.answers < wanted:
            if self.failures:
                raise self.failures[0]
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def ready(control: TritonControl) -> set[str]:
    found = await control.index(soon())
    return {each.version for each in found if (each.name, each.state) == (MODEL, "READY")}


async def test_an_unloaded_model_is_gone_and_comes_back(running: Running) -> None:
    client, control = TritonClient.create(running.address), TritonControl.create(running.address)

    await control.unload(MODEL, soon())
    with pytest.raises(NotFound):
        await client.model_info(MODEL, "", soon())
    with pytest.raises(NotFound):
        await control.unload(MODEL, soon())
    assert await control.load(MODEL, soon()) == ["1"]

    assert (await client.model_info(MODEL, "", soon())).version == "1"
    await control.stop()
    await client.stop(0)


async def test_an_unknown_model_or_version_is_refused(running: Running) -> None:
    control = TritonControl.create(running.address)

    with pytest.raises(ModelNotLoaded, match="nobody"):
        await control.load("nobody", soon())
    with pytest.raises(NotFound, match="nobody"):
        await control.unload("nobody", soon())
    with pytest.raises(NotFound, match="bi_encoder:9"):
        await control.unload_version(MODEL, "9", soon())

    await control.stop()


async def test_versions_come_and_go_beside_one_that_answers_all_the_while(
    running: Running,
) -> None:
    client, control = TritonClient.create(running.address), TritonControl.create(running.address)
    opened = OpenModels(Encoder, client, running.model_directory)
    first = await opened.get(MODEL, "1", soon())
    before = await first.encode([IDS], soon())
    caller = Caller(first)

    running.add("2")
    assert await control.load(MODEL, soon()) == ["1", "2"]
    await caller.answered_once_more()
    newest = await client.model_info(MODEL, "", soon())
    second = await opened.get(MODEL, "2", soon())
    await second.encode([IDS], soon())

    assert await control.unload_version(MODEL, "2", soon()) == ["1"]
    await caller.answered_once_more()
    with pytest.raises(NotFound):
        await second.encode([IDS], soon())

    assert await control.load(MODEL, soon()) == ["1", "2"]
    await caller.answered_once_more()
    running.remove("2")

    running.spoil("3")
    with pytest.raises(ModelNotLoaded, match="version 3") as refused:
        await control.load(MODEL, soon())
    await caller.answered_once_more()
    running.remove("3")

    assert "still served" in refused.value.remedy
    assert newest.version == "2"
    assert "1" in await ready(control)
    assert caller.failures == []
    assert np.allclose(await first.encode([IDS], soon()), before, atol=2e-5)
    await caller.stop()
    await control.stop()
    await client.stop(0)


async def test_where_nothing_listens_triton_is_unavailable() -> None:
    control = TritonControl.create(f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}")

    with pytest.raises(TritonUnavailable):
        await control.index(soon())

    await control.stop()
