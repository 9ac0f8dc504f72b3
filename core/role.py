"""The life of a role's process: configuration, logs, metrics, signals, exit code.

`run` is all that a role's `__main__.py` calls. The process exits with 0 after SIGTERM or SIGINT,
with 1 if it could not start or its own work failed; what was wrong stands in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar
from wsgiref.simple_server import WSGIServer

import uvloop
from prometheus_client import (
    CollectorRegistry,
    disable_created_metrics,
    start_http_server,
)

from core import config as configuration
from core import fsops, logs, otel
from core.errors import BadEnvironment, TriremeError

log = logging.getLogger(__name__)


class RoleConfig(Protocol):
    """What every role's configuration has."""

    @property
    def address_file(self) -> Path | None:
        """Where to write the bound `host:port` once ready."""

    @property
    def metrics_address(self) -> str:
        """`host:port` of the Prometheus endpoint; empty for none."""

    @property
    def log_level(self) -> str:
        """Lowest level to log."""

    @property
    def drain_pause_seconds(self) -> float:
        """How long to go on answering once health says NOT_SERVING."""

    @property
    def drain_seconds(self) -> float:
        """How long calls in flight may then take to end."""


class Role(Protocol):
    """A role's process: bound when created, ready when started."""

    @property
    def registry(self) -> CollectorRegistry:
        """Its metrics."""

    @property
    def address(self) -> str:
        """The bound `host:port`."""

    async def start(self) -> None:
        """Starts to work; returns when ready."""

    async def retire(self) -> None:
        """Says that it will not be there for long, and goes on answering."""

    async def stop(self, grace_seconds: float) -> None:
        """Stops taking calls, lets those in flight end, frees everything."""


Config = TypeVar("Config", bound=RoleConfig)
Create = Callable[[Config], Awaitable[Role]]


def run(
    section: str, kind: type[Config], create: Create[Config], arguments: Sequence[str] | None = None
) -> int:
    """Runs a role until it is told to stop; returns the exit code.

    `section` names the role and its part of the configuration file, `kind` its configuration.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {section}")
    parser.add_argument("--config", type=Path, required=True, help="YAML file")
    path: Path = parser.parse_args(arguments).config
    return serve(section, lambda: configuration.load(kind, path, section), create)


def serve(section: str, load: Callable[[], Config], create: Create[Config]) -> int:
    """As `run`, with a configuration from anywhere."""
    logs.configure("info")
    # When a series began, Prometheus sees by itself.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        config = load()
        logs.configure(config.log_level)
        end_tracing = otel.start(section)
        try:
            uvloop.run(_serve(section, config, create))
        finally:
            end_tracing()
    except TriremeError as error:
        log.error("role failed", extra={"role": section, "reason": error.reason, "why": str(error)})
        return 1
    return 0


async def _serve(section: str, config: Config, create: Create[Config]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    role = await create(config)
    metrics = _serve_metrics(config.metrics_address, role.registry)
    try:
        await _start_or_stop(role, stopping)
        # What was made until now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if not stopping.is_set():
            if config.address_file is not None:
                fsops.replace_file(config.address_file, role.address.encode())
            log.info("role is ready", extra={"role": section, "address": role.address})
            await stopping.wait()
            log.info("role is stopping", extra={"role": section})
            await role.retire()
            # Who balances over several replicas looks elsewhere meanwhile: no call is sent in vain.
            await asyncio.sleep(config.drain_pause_seconds)
    finally:
        await role.stop(config.drain_seconds)
        if metrics is not None:
            metrics.shutdown()
            metrics.server_close()


async def _start_or_stop(role: Role, stopping: asyncio.Event) -> None:
    """Starts the role, unless it is told to stop before it is ready."""
    starting = asyncio.ensure_future(role.start())
    signalled = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    finally:
        for task in (starting, signalled):
            task.cancel()
        await asyncio.gather(starting, signalled, return_exceptions=True)


def _serve_metrics(address: str, registry: CollectorRegistry) -> WSGIServer | None:
    if not address:
        return None
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host, registry)
    except (OSError, ValueError) as error:
        raise BadEnvironment(
            f"cannot serve metrics at {address!r}: {error}",
            field="metrics_address",
            remedy="give a free host:port, or leave it empty",
        ) from error
    assert isinstance(thread, threading.Thread)
    return server
