"""Processes are found, started, watched, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.deadline import Deadline
from core.errors import BadEnvironment, NewerFormat, TriremeError, Unreachable
from core.triton import TritonClient
from deploy.local import reaper
from deploy.local.children import Children, end, same_python
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.local.ports import free_ports
from deploy.local.state import State
from deploy.local.supervisor import Supervisor, backoff_seconds
from deploy.local.triton import exported_names
from deploy.local.wheel import find_libpython, find_wheel
from tests.contract.conftest import Served

SLEEPER = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("stubborn", "w").close()
time.sleep(600)
"""


@dataclass(frozen=True)
class Parent:
    """A running tests.fakes.parent, its reaper and all its other descendants."""

    process: asyncio.subprocess.Process
    reaper: psutil.Process
    descendants: list[psutil.Process]
    address: str
    shared_memory_prefix: str

    async def gone(self) -> None:
        """Returns when the parent and its reaper have ended."""
        await self.process.wait()
        while _is_alive(self.reaper):
            await asyncio.sleep(0.01)

    def leftovers(self) -> list[str]:
        """Processes and shared memory that are still there."""
        alive = [str(found) for found in self.descendants if _is_alive(found)]
        return alive + [
            str(path) for path in reaper.SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*")
        ]


def descendants(pid: int) -> list[psutil.Process]:
    """The children of a process, their children, and so on."""
    return list(psutil.Process(pid).children(recursive=True))


def _is_alive(found: psutil.Process) -> bool:
    """False also for a zombie: that only waits for the init process to take note of its end."""
    try:
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def parent(directory: Path, *options: str) -> AsyncIterator[Parent]:
    """Starts a parent and its family."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.parent",
        directory,
        *options,
        env=same_python(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = json.loads(await process.stdout.readline())
        family = descendants(process.pid)
        (guard,) = (found for found in family if "deploy.local.reaper" in found.cmdline())
        others = [found for found in family if found != guard]
        yield Parent(process, guard, others, said["address"], said["shared_memory_prefix"])
    finally:
        process.stdin.close()
        await process.wait()


def test_a_missing_libpython_is_named_with_the_package_that_has_it(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    with pytest.raises(BadEnvironment) as caught:
        find_libpython([tmp_path])

    assert f"libpython{version}.so.1.0" in str(caught.value)
    assert f"apt install libpython{version}" in str(caught.value)


def test_libpython_is_taken_from_the_first_place_that_has_it(tmp_path: Path) -> None:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for place in ("second", "third"):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).touch()

    found = find_libpython([tmp_path / place for place in ("first", "second", "third")])

    assert found == tmp_path / "second" / name


def test_a_missing_wheel_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(BadEnvironment, match=r"nvidia-pytriton.*pip install 'trireme\[local\]'"):
        find_wheel()


def test_only_complete_models_are_loaded(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("good", "without_model", "without_config"):
        (repository / name / "1").mkdir(parents=True)
    for name in ("good", "without_model"):
        (repository / name / "config.pbtxt").touch()
    for name in ("good", "without_config"):
        (repository / name / "1" / "model.pt").touch()
    (repository / "README.md").touch()

    assert exported_names(repository) == ["good"]


def test_a_repository_without_models_says_how_to_export_them(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="trireme models export"):
        exported_names(tmp_path)


async def test_after_kill_9_of_the_parent_nothing_is_left(tmp_path: Path) -> None:
    async with parent(tmp_path) as running:
        assert len(running.descendants) == 2  # a child and its child
        assert running.leftovers()

        running.process.kill()
        await running.gone()

        assert running.leftovers() == []


async def test_after_an_orderly_stop_nothing_is_left(tmp_path: Path) -> None:
    async with parent(tmp_path) as running:
        assert running.process.stdin is not None
        running.process.stdin.close()
        await running.gone()

        assert running.leftovers() == []
        assert running.process.returncode == 0


async def test_the_state_stays_locked_until_the_reaper_is_done(tmp_path: Path) -> None:
    async with parent(tmp_path) as running:
        running.process.kill()
        await running.process.wait()

        state = await State.open(tmp_path, shards=1)

        assert running.leftovers() == []
        state.close()


async def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    token = "stubborn-" + tmp_path.name
    environment = {**os.environ, reaper.TOKEN_VARIABLE: token}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUBBORN, env=environment, cwd=tmp_path
    )
    while not (tmp_path / "stubborn").exists():
        await asyncio.sleep(0.01)

    assert reaper.family(token) == [process.pid]
    await asyncio.to_thread(reaper.end, token, 0.1)

    assert await process.wait() == -signal.SIGKILL


async def test_a_state_directory_belongs_to_one_cluster(tmp_path: Path) -> None:
    state = await State.open(tmp_path, shards=1)

    with pytest.raises(BadEnvironment, match=f"process {os.getpid()}"):
        await State.open(tmp_path, shards=1)

    state.close()
    (await State.open(tmp_path, shards=1)).close()


async def test_a_state_of_another_number_of_shards_or_a_newer_format_is_refused(
    tmp_path: Path,
) -> None:
    (await State.open(tmp_path, shards=2)).close()
    with pytest.raises(BadEnvironment, match="holds 2 shards, not 3"):
        await State.open(tmp_path, shards=3)

    (tmp_path / "format.json").write_text('{"format": 2, "shards": 2}')
    with pytest.raises(NewerFormat):
        await State.open(tmp_path, shards=2)


async def test_a_port_in_use_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(BadEnvironment, match=f"{port}: already in use; choose another port"):
            await Cluster.create(ClusterConfig(state=tmp_path, port=port))


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20, "127.0.0.1")

    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_restarts_wait_longer_after_each_failure() -> None:
    assert [backoff_seconds(failures) for failures in (0, 1, 2, 3, 9)] == [0, 0.2, 0.4, 0.8, 5]


class Sleeper:
    """A service that sleeps, and fails to start as often as it is told to."""

    name = "sleeper"

    def __init__(self, children: Children, log: Path) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.failures = 0
        self.started = asyncio.Event()
        self._children = children
        self._log = log

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unreachable("not yet")
        command = [sys.executable, "-c", SLEEPER]
        self.process = await self._children.spawn(command, same_python(os.environ), self._log)
        self.started.set()

    async def lost(self) -> str:
        assert self.process is not None
        return f"ended with status {await self.process.wait()}"

    async def stop(self, grace_seconds: float) -> None:
        assert self.process is not None
        await end(self.process, grace_seconds)


@pytest.mark.parametrize("failures", [0, 2])
async def test_a_service_that_dies_is_started_until_it_runs_again(
    tmp_path: Path, failures: int
) -> None:
    children = await Children.create()
    service, said = Sleeper(children, tmp_path / "log"), list[str]()
    supervisor = Supervisor(service, said.append)
    await supervisor.start()
    assert service.process is not None
    first = service.process.pid

    service.failures = failures
    service.started.clear()
    os.kill(first, signal.SIGKILL)
    await service.started.wait()

    assert service.process.pid != first
    assert supervisor.restarts == 1 + failures
    assert said[:2] == ["starting sleeper", "sleeper ended with status -9, starting it again"]
    await supervisor.stop(1)
    await children.stop()


@pytest.mark.triton
async def test_a_triton_whose_model_died_is_replaced_and_leaves_nothing(
    real_triton: Served, tmp_path: Path
) -> None:
    async with parent(tmp_path, "--triton") as running:
        stubs = [found for found in running.descendants if "stub" in found.name()]
        client = TritonClient.create(running.address)

        for stub in stubs:
            stub.kill()
        await _answers_again(client)
        replaced = [found for found in descendants(running.process.pid) if found != running.reaper]
        running.descendants.extend(replaced)
        running.process.kill()
        await running.gone()

        assert len(stubs) == 2 * 2  # two models with two instances each
        assert running.leftovers() == []
        await client.stop(0)


async def _answers_again(client: TritonClient) -> None:
    """Returns once both models answer."""
    deadline = Deadline.after(120)
    token = np.ones((1, 1), dtype=np.int64)
    for model in ("bi_encoder", "cross_encoder"):
        while True:
            try:
                info = await client.model_info(model, "", deadline)
                await client.infer(model, "", [token] * info.input_count, deadline, priority=1)
                break
            except TriremeError:
                deadline.check("the models answered")
                await asyncio.sleep(0.1)
