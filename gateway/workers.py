"""Several gateway processes at one address, seen from outside as one role.

The parent binds the address without listening, so that it stays taken while workers come and go;
every worker listens at it with SO_REUSEPORT, and the kernel spreads new connections over them. The
workers are new processes, never forks: gRPC does not survive a fork.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from core.errors import BadEnvironment
from core.role import Role
from core.role_server import check_free
from gateway.config import GatewayConfig
from gateway.metrics import WorkersMetrics
from gateway.server import Gateway
from gateway.worker_pages import WorkerPages
from gateway.worker_process import WorkerProcess

log = logging.getLogger(__name__)

_KEY_BYTES = 32


async def create_gateway(config: GatewayConfig) -> Role:
    """One gateway, or the parent of several; raises BadEnvironment."""
    if config.workers < 1:
        raise BadEnvironment(f"{config.workers} answer nothing", field="workers", remedy="give 1")
    if config.workers == 1:
        return await Gateway.create(config)
    return Workers(config)


def backoff_seconds(failures: int) -> float:
    """How long to wait before the next start after so many in vain: 0, then 0.2 s to 5 s."""
    return min(5.0, 0.2 * 2 ** (failures - 1)) if failures else 0.0


class Workers:
    """Starts the workers, starts again what dies, and passes the end on to them."""

    def __init__(self, config: GatewayConfig) -> None:
        self._ports: list[socket.socket] = []
        self.address = self._reserved(config.address)
        self.http_address = self._reserved(config.http_address) if config.http_address else ""
        key_file, keep = _page_token_key(config.page_token_key_file)
        own = replace(
            config,
            address=self.address,
            http_address=self.http_address,
            page_token_key_file=key_file,
            metrics_address="",
            address_file=None,
        )
        self._keep = keep
        self._workers = [
            WorkerProcess(number, _plain(own), keep) for number in range(config.workers)
        ]
        self._watching: list[asyncio.Task[None]] = []
        self._metrics = WorkersMetrics()
        self._metrics.registry.register(WorkerPages(self._metrics_ports))

    @property
    def registry(self) -> CollectorRegistry:
        """What the common metrics page shows."""
        return self._metrics.registry

    @property
    def pids(self) -> list[int]:
        """The workers' processes, by number."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def start(self) -> None:
        """Returns when all workers answer; raises BadEnvironment if one does not start."""
        await asyncio.gather(*(worker.start() for worker in self._workers))
        self._watching = [asyncio.create_task(self._watch(worker)) for worker in self._workers]

    async def retire(self) -> None:
        """Tells every worker to drain."""
        await self._stop_watching()
        for worker in self._workers:
            worker.retire()

    async def stop(self, grace_seconds: float) -> None:
        """Waits until every worker has drained, and frees the address."""
        await self._stop_watching()
        await asyncio.gather(*(worker.stop(grace_seconds) for worker in self._workers))
        self._free()
        for descriptor in self._keep:
            os.close(descriptor)

    async def _watch(self, worker: WorkerProcess) -> None:
        failures = 0
        while True:
            if not failures:
                status = await worker.lost()
                log.warning("worker was lost", extra={"worker": worker.number, "status": status})
            await asyncio.sleep(backoff_seconds(failures))
            self._metrics.restarts.inc()
            try:
                await worker.start()
                failures = 0
            except (BadEnvironment, OSError) as error:
                failures += 1
                log.warning(
                    "worker did not start", extra={"worker": worker.number, "why": str(error)}
                )

    async def _stop_watching(self) -> None:
        watching, self._watching = self._watching, []
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    def _metrics_ports(self) -> Mapping[int, int]:
        return {w.number: w.metrics_port for w in self._workers if w.metrics_port}

    def _reserved(self, address: str) -> str:
        """Takes a `host:port`, a free port for 0; raises BadEnvironment if it is in use."""
        try:
            taken = _bound(address)
        except BadEnvironment:
            self._free()
            raise
        self._ports.append(taken)
        return f"{address.rpartition(':')[0]}:{taken.getsockname()[1]}"

    def _free(self) -> None:
        for port in self._ports:
            port.close()

    def __repr__(self) -> str:
        return f"<Workers at {self.address}, {len(self._workers)} processes>"


def _bound(address: str) -> socket.socket:
    """A socket that keeps a `host:port` for this user's processes; raises BadEnvironment."""
    check_free(address)
    host, _, port = address.rpartition(":")
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taken.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError) as error:
        taken.close()
        raise BadEnvironment(
            f"cannot listen at {address}: {error}",
            field="address",
            remedy="choose another port, or port 0 for a free one",
        ) from error
    return taken


def _page_token_key(file: Path | None) -> tuple[Path, list[int]]:
    """Where all workers find one key for page tokens, and what they must inherit for that.

    A key of this process is handed down in memory only: a file would have to be kept secret.
    """
    if file is not None:
        return file, []
    descriptor = os.memfd_create("page-token-key")
    os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
    return Path(f"/proc/self/fd/{descriptor}"), [descriptor]


def _plain(config: GatewayConfig) -> dict[str, Any]:
    """The configuration as values that JSON has."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
