"""Tells a running Triton which models to serve; it must run in explicit model control mode."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from core.deadline import Deadline
from core.errors import ModelNotLoaded, OutOfTime, TriremeError, TritonUnavailable
from core.triton import not_served

READY = "READY"
UNLOADING = "UNLOADING"
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Served:
    """What Triton says of a version; `version` is "" for a model that was never loaded.

    `state` is READY, LOADING, UNLOADING, UNAVAILABLE or "", and `reason` why it is that.
    """

    name: str
    version: str
    state: str
    reason: str


class TritonControl:
    """One Triton's repository: `await create`, its verbs, `await stop()`."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    @classmethod
    def create(cls, address: str) -> TritonControl:
        """For `host:port`; call it inside a running event loop."""
        return cls(address, grpc.aio.insecure_channel(address))

    async def stop(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def index(self, deadline: Deadline) -> list[Served]:
        """Every version Triton knows of, also those that it could not load."""
        request = service_pb2.RepositoryIndexRequest()
        reply = await self._ask(self._stub.RepositoryIndex, request, deadline)
        return [Served(m.name, m.version, m.state, m.reason) for m in reply.models]

    async def load(self, name: str, deadline: Deadline) -> list[str]:
        """Loads a model's versions as they lie in the repository; returns those that are ready.

        Versions that were ready answer all the while. Raises ModelNotLoaded with Triton's reason.
        """
        await self._unloaded(name, deadline)
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        await self._ask(self._stub.RepositoryModelLoad, request, deadline)
        ready = await self._ready(name, deadline)
        config = await self._config(name, ready[0], deadline)
        if config.version_policy.HasField("specific"):
            # Versions were left out by `unload_version`, and the files are as they were then.
            await self._load_with_policy(config, {"all": {}}, deadline)
        return await self._ready(name, deadline)

    async def unload(self, name: str, deadline: Deadline) -> None:
        """Ends serving a model; what is being answered is answered. Raises NotFound."""
        await self._ready(name, deadline)
        request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
        await self._ask(self._stub.RepositoryModelUnload, request, deadline)

    async def unload_version(self, name: str, version: str, deadline: Deadline) -> list[str]:
        """Ends serving one version of several, until the model is loaded again or Triton restarts.

        Returns the versions that remain. Raises NotFound.
        """
        ready = await self._ready(name, deadline)
        if version not in ready:
            raise not_served(self.address, f"{name}:{version}")
        remaining = [each for each in ready if each != version]
        if not remaining:
            await self.unload(name, deadline)
            return []
        config = await self._config(name, remaining[0], deadline)
        await self._load_with_policy(config, {"specific": {"versions": remaining}}, deadline)
        return remaining

    async def _unloaded(self, name: str, deadline: Deadline) -> None:
        """Returns once nothing of a model is being unloaded: a load meanwhile has ended Triton."""
        while any(
            (each.name, each.state) == (name, UNLOADING) for each in await self.index(deadline)
        ):
            deadline.check("the model was unloaded")
            await asyncio.sleep(_POLL_SECONDS)

    async def _config(self, name: str, version: str, deadline: Deadline) -> Any:
        request = service_pb2.ModelConfigRequest(name=name, version=version)
        return (await self._ask(self._stub.ModelConfig, request, deadline)).config

    async def _load_with_policy(self, config: Any, policy: Any, deadline: Deadline) -> None:
        """Loads a model with the configuration that it has, but for its version policy."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=config.name)
        changed = MessageToDict(config) | {"versionPolicy": policy}
        request.parameters["config"].string_param = json.dumps(changed)
        await self._ask(self._stub.RepositoryModelLoad, request, deadline)

    async def _ready(self, name: str, deadline: Deadline) -> list[str]:
        found = await self.index(deadline)
        ready = [each.version for each in found if each.name == name and each.state == READY]
        if not ready:
            raise not_served(self.address, name)
        return ready

    async def _ask(self, method: Any, request: Any, deadline: Deadline) -> Any:
        try:
            return await method(request, timeout=deadline.remaining())
        except grpc.aio.AioRpcError as error:
            name = getattr(request, "model_name", "")
            raise self._translated(error, name) from error

    def _translated(self, error: grpc.aio.AioRpcError, name: str) -> TriremeError:
        detail = error.details() or ""
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return OutOfTime("Triton did not answer in time", remedy="allow more time")
        if code is grpc.StatusCode.UNAVAILABLE and "load" not in detail:
            return TritonUnavailable(f"nothing answers at {self.address}: {detail}")
        remedy = "what was served before is still served; see Triton's log"
        if "explicit" in detail:
            remedy = "start Triton with --model-control-mode=explicit"
        # The first lines say what is wrong; a Python stack may follow.
        reason = detail.partition("\n\nAt:")[0].strip()
        return ModelNotLoaded(f"Triton did not load it: {reason}", field=name, remedy=remedy)

    def __repr__(self) -> str:
        return f"<TritonControl {self.address}>"
