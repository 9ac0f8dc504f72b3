"""All of Trireme on one machine: Triton, indexer, shards and gateway as processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.deadline import Deadline
from core.errors import BadEnvironment
from core.fsops import replace_file
from core.role_server import check_free
from deploy.local.children import Children, complaints, same_python
from deploy.local.monitoring import write_prometheus_config
from deploy.local.ports import free_ports
from deploy.local.role import RoleProcess, RoleSpec
from deploy.local.state import State, triton_address_file
from deploy.local.supervisor import OnProgress, Service, Supervisor
from deploy.local.triton import TritonConfig, TritonServer, exported_models

MODEL_REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
MODELS = ("bi_encoder", "cross_encoder")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What a cluster can be told.

    `port` 0 picks a free one for the gateway, `http_port` likewise for its HTTP doors and console,
    which there are not if it is None. Each shard has `replicas` processes. Documents are
    kept in `database_url`, in a file below `state` if that is empty. With
    `triton_address`, that Triton is used and none is started; `model_directory` must then hold its
    models' tokenizers. With `index_url` the index is published in that bucket. `settings`
    adds to or overrides roles' settings by role, as in
    `{"gateway": {"log_level": "debug"}}`.
    """

    state: Path
    shards: int = 2
    replicas: int = 1
    port: int = 0
    http_port: int | None = None
    host: str = "127.0.0.1"
    database_url: str = ""
    triton_address: str | None = None
    model_directory: Path = MODEL_REPOSITORY
    start_seconds: float = 120.0
    index_url: str = ""
    settings: Mapping[str, Mapping[str, Any]] | None = None


class Cluster:
    """`await create(config)`, `await start()`, `await stop(grace_seconds)`.

    A role that dies is started again at the same port. `kill` and `pids` are there for fault tests;
    roles are called "triton", "indexer", "shard-0" and so on, and "gateway"; further replicas of
    shard 0 are called "shard-0-replica-1" and so on.
    """

    def __init__(self, config: ClusterConfig, state: State, children: Children) -> None:
        shards = _shard_names(config)
        ports = iter(free_ports(2 * len(shards) + 7, "127.0.0.1"))
        self.config = config
        self.address = f"{_reachable(config.host)}:{config.port or next(ports)}"
        self.http_address = ""
        if config.http_port is not None:
            self.http_address = f"{_reachable(config.host)}:{config.http_port or next(ports)}"
        self._state = state
        self._children = children
        self._supervisors: dict[str, Supervisor] = {}
        self._indexer = f"127.0.0.1:{next(ports)}"
        self._shards = {name: f"127.0.0.1:{next(ports)}" for name in shards}
        self._triton_config = TritonConfig(
            model_repository=config.model_directory.absolute(),
            state=state.triton,
            grpc_port=next(ports),
            metrics_port=next(ports),
            log=state.logs / "triton.log",
            start_seconds=config.start_seconds,
        )
        self.triton_address = config.triton_address or self._triton_config.address
        roles = ("indexer", *shards, "gateway")
        self.metrics_addresses = {name: f"127.0.0.1:{next(ports)}" for name in roles}
        if config.triton_address is None:
            port = self._triton_config.metrics_port
            self.metrics_addresses["triton"] = f"{self._triton_config.host}:{port}"

    @classmethod
    async def create(cls, config: ClusterConfig) -> Cluster:
        """Locks the state directory and picks ports.

        Raises BadEnvironment if the directory or the port is in use, and NewerFormat.
        """
        if config.shards < 1:
            raise BadEnvironment("must be at least 1", field="shards")
        if config.replicas < 1:
            raise BadEnvironment("must be at least 1", field="replicas")
        for port in (config.port, config.http_port or 0):
            check_free(f"{config.host}:{port}")
        state = await State.open(config.state, config.shards)
        try:
            children = await Children.create(keep_open=state.lock)
            return cls(config, state, children)
        except BaseException:
            state.close()
            raise

    async def start(self, on_progress: OnProgress = lambda _: None) -> None:
        """Starts every role and returns when the gateway serves; `on_progress` is told each step.

        Raises BadEnvironment or Unreachable; `stop` then cleans up what has been started.
        """
        if self.config.triton_address is None:
            await self._export_models(on_progress)
            triton = TritonServer.create(self._triton_config, self._children)
            await self._supervise(triton, on_progress)
        replace_file(triton_address_file(self._state.path), self.triton_address.encode())
        for spec in self._specs():
            await self._supervise(RoleProcess(spec, self._children), on_progress)
        replace_file(self._state.address_file, self.address.encode())
        write_prometheus_config(self._state.prometheus_file, self.metrics_addresses)

    async def stop(self, grace_seconds: float) -> None:
        """Stops the roles, the gateway first, and waits until no process of theirs is left."""
        deadline = Deadline.after(grace_seconds)
        self._state.address_file.unlink(missing_ok=True)
        triton_address_file(self._state.path).unlink(missing_ok=True)
        for supervisor in reversed(self._supervisors.values()):
            await supervisor.stop(deadline.remaining())
        await self._children.stop()
        self._state.close()

    @property
    def pids(self) -> dict[str, int]:
        """The process of each role, as of its newest start."""
        processes = {name: found.service.process for name, found in self._supervisors.items()}
        return {name: process.pid for name, process in processes.items() if process is not None}

    @property
    def addresses(self) -> dict[str, str]:
        """Where each role but Triton listens."""
        return {spec.name: spec.address for spec in self._specs()} | {"gateway": self.address}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each role has been started again."""
        return {name: supervisor.restarts for name, supervisor in self._supervisors.items()}

    def kill(self, role: str) -> None:
        """Ends a role at once, as a crash would; it is then started again."""
        os.kill(self.pids[role], signal.SIGKILL)

    async def _supervise(self, service: Service, on_progress: OnProgress) -> None:
        supervisor = Supervisor(service, on_progress)
        self._supervisors[service.name] = supervisor
        await supervisor.start()

    async def _export_models(self, on_progress: OnProgress) -> None:
        """Exports the models if one is missing, in a process of its own: torch is large."""
        repository = self._triton_config.model_repository
        if {model.name for model in exported_models(repository)} >= set(MODELS):
            return
        on_progress("exporting models (once)")
        call = (
            "import pathlib, sys; from deploy.models.export import export_all; "
            "export_all(pathlib.Path(sys.argv[1]))"
        )
        log = self._state.logs / "export.log"
        process = await self._children.spawn(
            [sys.executable, "-c", call, repository], same_python(os.environ), log
        )
        if await process.wait() != 0:
            raise BadEnvironment(
                f"the models could not be exported:\n{complaints(log)}", remedy=f"see {log}"
            )

    def _specs(self) -> list[RoleSpec]:
        """Every role but Triton, in the order of starting."""
        models = {
            "triton_address": self.triton_address,
            "model_directory": str(self.config.model_directory.absolute()),
        }
        indexer = {
            "database_url": self.config.database_url or self._state.database_url,
            "shard_count": self.config.shards,
        }
        gateway: dict[str, Any] = {
            "shards": [*self._shards.values()],
            "indexer_address": self._indexer,
        }
        if self.http_address:
            http_port = self.http_address.rpartition(":")[2]
            gateway |= {"http_address": f"{self.config.host}:{http_port}", "console": True}
        port = self.address.rpartition(":")[2]
        return [
            self._spec(
                "indexer", "indexer", self._indexer, indexer | models | self._index("indexer")
            ),
            *(
                self._spec(name, "shard", self._shards[name], self._index(name) | {"shard": number})
                for name, number in _shard_names(self.config).items()
            ),
            self._spec("gateway", "gateway", f"{self.config.host}:{port}", gateway | models),
        ]

    def _index(self, role: str) -> dict[str, Any]:
        """Where the index is published, and where a process keeps its copies of that."""
        directory = self._state.index
        settings = {"index_directory": str(directory)}
        if self.config.index_url:
            settings["index_url"] = self.config.index_url
            settings["index_cache_directory"] = str(directory / "cache" / role)
        return settings

    def _spec(self, name: str, module: str, address: str, settings: dict[str, Any]) -> RoleSpec:
        extra = (self.config.settings or {}).get(module, {})
        return RoleSpec(
            name=name,
            module=module,
            address=address,
            settings={**settings, "metrics_address": self.metrics_addresses[name], **extra},
            config=self._state.config / f"{name}.yaml",
            log=self._state.logs / f"{name}.log",
            start_seconds=self.config.start_seconds,
        )

    def __repr__(self) -> str:
        restarts = sum(self.restarts.values())
        return f"<Cluster at {self.address}, {len(self.pids)} processes, {restarts} restarts>"


def _shard_names(config: ClusterConfig) -> dict[str, int]:
    """The name of each shard process, and its shard."""
    return {
        f"shard-{shard}" + (f"-replica-{replica}" if replica else ""): shard
        for replica in range(config.replicas)
        for shard in range(config.shards)
    }


def _reachable(host: str) -> str:
    """Where a client on this machine finds what listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}.get(host, host)
