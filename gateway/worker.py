"""One of several gateway processes at one address: `python -m gateway.worker --control FD`.

Started by `gateway.workers` only. The descriptor is a socket to the parent: it brings the
configuration as one line of JSON and takes one when the worker is ready; its end is the parent's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

import core.one_thread  # noqa: F401  # before any library that it is about
from core import config as configuration
from core.role import serve
from gateway.config import GatewayConfig
from gateway.server import Gateway


class Worker:
    """A gateway that tells its parent when it is ready, and does not outlive it."""

    def __init__(self, gateway: Gateway, control: socket.socket) -> None:
        self._gateway = gateway
        self._control = control
        # Kept: a writer that nobody holds closes the connection.
        self._writer: asyncio.StreamWriter | None = None
        self._page: WSGIServer | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def registry(self) -> CollectorRegistry:
        """What its own metrics page shows, which only the parent reads."""
        return self._gateway.registry

    @property
    def address(self) -> str:
        """The address that all workers share."""
        return self._gateway.address

    async def start(self) -> None:
        """Begins to answer, then says so."""
        reader, self._writer = await asyncio.open_connection(sock=self._control)
        self._watching = asyncio.create_task(_end_with_parent(reader))
        await self._gateway.start()
        self._page, _ = start_http_server(0, "127.0.0.1", self.registry)
        ready = {"metrics_port": self._page.server_port}
        self._writer.write(json.dumps(ready).encode() + b"\n")
        await self._writer.drain()

    async def retire(self) -> None:
        """Tells health checks to look elsewhere, and goes on answering."""
        await self._gateway.retire()

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight end, then lets go of everything."""
        if self._watching is not None:
            self._watching.cancel()
        await self._gateway.stop(grace_seconds)
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()


async def _end_with_parent(reader: asyncio.StreamReader) -> None:
    await reader.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Runs until it is told to stop or its parent has ended; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.worker")
    parser.add_argument("--control", type=int, required=True, help="socket to the parent")
    control = socket.socket(fileno=parser.parse_args().control)

    def load() -> GatewayConfig:
        with control.makefile("r") as lines:
            return configuration.build(GatewayConfig, json.loads(lines.readline()), "worker")

    async def create(config: GatewayConfig) -> Worker:
        return Worker(await Gateway.create(config), control)

    return serve("gateway", load, create)


if __name__ == "__main__":
    sys.exit(main())
