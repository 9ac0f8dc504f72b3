"""Starts the Triton server of the nvidia-pytriton wheel over our model repository."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.deadline import Deadline
from core.errors import BadEnvironment, NotFound, TriremeError, TritonUnavailable
from core.triton import TritonClient
from deploy.local.children import Children, complaints, end
from deploy.local.reaper import remove_shared_memory
from deploy.local.wheel import Wheel, find_wheel

BACKENDS = Path(__file__).parent / "backends"
_POLL_SECONDS = 0.1
_PROBE_SECONDS = 2.0
# Of each instance: the largest batch fits. The backend's own 1 MB would have to grow, which has
# crashed servers of others.
_SHARED_MEMORY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """`state` is a directory of this server's own; ports must be free, see ports.free_ports."""

    model_repository: Path
    state: Path
    grpc_port: int
    metrics_port: int
    log: Path
    host: str = "127.0.0.1"
    start_seconds: float = 120.0
    drain_seconds: int = 5
    silence_seconds: float = 60.0

    @property
    def address(self) -> str:
        """Where it answers gRPC."""
        return f"{self.host}:{self.grpc_port}"


class TritonServer:
    """One Triton process: `await create`, `await start()`, `await stop()`."""

    def __init__(self, config: TritonConfig, children: Children, wheel: Wheel) -> None:
        self.name = "triton"
        self.config = config
        self.address = config.address
        self.log = config.log
        self.process: asyncio.subprocess.Process | None = None
        self._children = children
        self._wheel = wheel
        self._models: list[str] = []
        self._prefix = f"{children.shared_memory_prefix}{config.grpc_port}-"

    @classmethod
    def create(cls, config: TritonConfig, children: Children) -> TritonServer:
        """Raises BadEnvironment if Triton, torch or libpython is not on this machine."""
        return cls(config, children, find_wheel())

    async def start(self) -> None:
        """Starts the server and waits until every model has answered a one-token inference.

        Raises BadEnvironment if there is no model, and TritonUnavailable, with what its log says,
        if it ends, takes too long or cannot load one.
        """
        self._models = exported_names(self.config.model_repository)
        copy_backends(self._wheel, self.config.state / "backends")
        remove_shared_memory(self._prefix)
        self.process = await self._children.spawn(
            self._command(), self._wheel.environment() | _QUIET | _ALLOCATION, self.log
        )
        answered = asyncio.create_task(self._answers(Deadline.after(self.config.start_seconds)))
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait({answered, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise TritonUnavailable(
                    f"Triton ended with status {ended.result()} while it started:\n"
                    f"{complaints(self.log)}",
                    remedy=f"see {self.log}",
                )
            answered.result()
        finally:
            answered.cancel()
            ended.cancel()

    async def stop(self, grace_seconds: float) -> None:
        """Lets inferences in flight end for up to `grace_seconds`, then ends the process."""
        if self.process is not None:
            await end(self.process, grace_seconds)

    async def lost(self) -> str:
        """Returns when the process has ended or a model in it no longer answers, saying which.

        Triton does not notice the end of a model's process, and goes on saying that it is ready.
        """
        assert self.process is not None
        ended = asyncio.create_task(self.process.wait())
        silent = asyncio.create_task(self._falls_silent())
        try:
            await asyncio.wait({ended, silent}, return_when=asyncio.FIRST_COMPLETED)
            return f"ended with status {ended.result()}" if ended.done() else silent.result()
        finally:
            ended.cancel()
            silent.cancel()

    async def _falls_silent(self) -> str:
        """Returns when a model's process has died, or a model has not answered for too long.

        One refusal says nothing: a busy Triton refuses what has waited too long.
        """
        async with self._client() as client:
            silent_at = dict.fromkeys(self._models, Deadline.after(self.config.silence_seconds))
            while True:
                await asyncio.sleep(_PROBE_SECONDS)
                for model in self._models:
                    try:
                        await _ask(client, model, Deadline.after(self.config.silence_seconds))
                    except NotFound:  # somebody unloaded it
                        silent_at[model] = Deadline.after(self.config.silence_seconds)
                    except TriremeError as error:
                        if "not healthy" in error.message or not silent_at[model].remaining():
                            return f"does not answer: {error.message}"
                    else:
                        silent_at[model] = Deadline.after(self.config.silence_seconds)

    async def _answers(self, deadline: Deadline) -> None:
        """Returns once each model has embedded one token; readiness alone has lied before."""
        async with self._client() as client:
            for model in self._models:
                await self._answers_for(client, model, deadline)

    async def _answers_for(self, client: TritonClient, model: str, deadline: Deadline) -> None:
        while True:
            try:
                return await _ask(client, model, deadline)
            except TriremeError as error:
                if deadline.remaining() <= _POLL_SECONDS:
                    raise TritonUnavailable(
                        f"model {model} does not answer after {self.config.start_seconds:g} s: "
                        f"{error}",
                        remedy=f"see {self.log}",
                    ) from error
                await asyncio.sleep(_POLL_SECONDS)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[TritonClient]:
        client = TritonClient.create(self.address)
        try:
            yield client
        finally:
            await client.stop(0)

    def _command(self) -> list[str | Path]:
        config = self.config
        return [
            self._wheel.server,
            f"--model-repository={config.model_repository}",
            f"--backend-directory={config.state / 'backends'}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self._models),
            "--disable-auto-complete-config",
            "--model-load-thread-count=2",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            f"--backend-config=python,shm-default-byte-size={_SHARED_MEMORY_BYTES}",
            f"--backend-config=python,stub-timeout-seconds={config.start_seconds:.0f}",
            "--allow-http=false",
            f"--grpc-address={config.host}",
            f"--grpc-port={config.grpc_port}",
            "--grpc-http2-min-recv-ping-interval-without-data=5000",
            "--grpc-keepalive-permit-without-calls=true",
            f"--metrics-address={config.host}",
            f"--metrics-port={config.metrics_port}",
            f"--exit-timeout-secs={config.drain_seconds}",
        ]

    def __repr__(self) -> str:
        state = "not started" if self.process is None else f"pid {self.process.pid}"
        return f"<TritonServer {self.address}, {state}>"


# Threads that spin while they wait take the other processes' cores.
_QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
# A request's tensors are megabytes that are wanted again by the next one: handing them back to the
# system and getting them zeroed again took 5 to 15 % of the time of an inference.
_ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}


async def _ask(client: TritonClient, model: str, deadline: Deadline) -> None:
    """Runs a model over one token; raises what TritonClient does."""
    info = await client.model_info(model, "", deadline)
    token = np.ones((1, 1), dtype=np.int64)
    await client.infer(model, info.version, [token] * info.input_count, deadline, priority=1)


def exported_models(repository: Path) -> list[Path]:
    """The directories of models that have a configuration and a version with a model.pt."""
    models = sorted(path.parent for path in repository.glob("*/config.pbtxt"))
    return [model for model in models if any(model.glob("[1-9]*/model.pt"))]


def exported_names(repository: Path) -> list[str]:
    """The names of the models to serve; raises BadEnvironment if there is none."""
    complete = exported_models(repository)
    if not complete:
        raise BadEnvironment(
            "holds no exported model", field=str(repository), remedy="run `trireme models export`"
        )
    return [model.name for model in complete]


def copy_backends(wheel: Wheel, target: Path) -> None:
    """Builds a backend directory: the wheel's Python backend, and ours on top of it.

    Copies, since Triton refuses a link that leads out of the backend directory.
    """
    _empty(target)
    python = target / "python"
    python.mkdir()
    parts = (*wheel.python_backend.glob("*.so"), *wheel.python_backend.glob("*.py"), wheel.stub)
    for path in parts:
        shutil.copy2(path, python)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(BACKENDS / "pytorch", target / "pytorch", ignore=ignored)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
