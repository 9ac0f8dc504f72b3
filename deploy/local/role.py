"""One role as a process: its configuration file, its log, its health."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.deadline import Deadline
from core.errors import Unreachable
from core.fsops import replace_file
from core.rpc import open_channel
from core.security.tls import TlsSettings
from deploy.local.children import Children, complaints, end, same_python

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """What to run: `python -m module --config <config>`, serving at `address`."""

    name: str
    module: str
    address: str
    settings: Mapping[str, Any]
    config: Path
    log: Path
    start_seconds: float


class RoleProcess:
    """Starts and stops one role."""

    def __init__(self, spec: RoleSpec, children: Children) -> None:
        self.spec = spec
        self.name = spec.name
        self.process: asyncio.subprocess.Process | None = None
        self._children = children

    async def start(self) -> None:
        """Writes the configuration, starts the process, waits until it says that it serves.

        Raises Unreachable, with what its log says, if it ends or takes too long.
        """
        spec = self.spec
        content = yaml.safe_dump({spec.module: {**spec.settings, "address": spec.address}})
        replace_file(spec.config, content.encode())
        self.process = await self._children.spawn(
            [sys.executable, "-m", spec.module, "--config", spec.config],
            same_python(os.environ),
            spec.log,
        )
        serving = asyncio.create_task(self._serves())
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                raise self._failed(f"ended with status {ended.result()} while it started")
            serving.result()
        finally:
            serving.cancel()
            ended.cancel()

    async def lost(self) -> str:
        """Returns when the process has ended, saying how."""
        assert self.process is not None
        return f"ended with status {await self.process.wait()}"

    async def stop(self, grace_seconds: float) -> None:
        """Lets it drain for up to `grace_seconds`."""
        if self.process is not None:
            await end(self.process, grace_seconds)

    async def _serves(self) -> None:
        """Returns when the role's health service says SERVING."""
        request = health_pb2.HealthCheckRequest()
        deadline = Deadline.after(self.spec.start_seconds)
        tls = TlsSettings.of_mapping(self.spec.settings)
        async with open_channel(self.spec.address, tls) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while True:
                try:
                    response = await health.Check(
                        request, timeout=deadline.remaining(), wait_for_ready=True
                    )
                except grpc.aio.AioRpcError as error:
                    raise self._failed("did not become ready") from error
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    def _failed(self, what: str) -> Unreachable:
        return Unreachable(
            f"{what}\n{complaints(self.spec.log)}", field=self.name, remedy=f"see {self.spec.log}"
        )

    def __repr__(self) -> str:
        state = "not started" if self.process is None else f"pid {self.process.pid}"
        return f"<RoleProcess {self.name} at {self.spec.address}, {state}>"
