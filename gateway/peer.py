"""One shard process: its channel, its watch, what it serves, how it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Gauge

from core.filters.schema import Schema
from core.filters.wire import schema_from_proto
from core.names import Names
from core.rpc import open_channel
from core.security.tls import NO_TLS, TlsSettings
from gateway.line import Line
from gateway.pulse import Pulse
from gateway.recent import Recent
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.1
# Before anything was measured, a second replica is asked after this.
ASSUMED_CALL_SECONDS = 0.1


class Peer:
    """A shard that counts as not answering while its watch is broken, and until it is back.

    `in_flight` counts its unfinished calls; `pulse` tells whether it has fallen silent.
    """

    def __init__(
        self,
        address: str,
        changed: Callable[[], None],
        silent: Gauge,
        hedge_quantile: float,
        tls: TlsSettings = NO_TLS,
    ) -> None:
        self.address = address
        self.connected = False
        self.states: dict[str, shard_pb2.CollectionState] = {}
        self.schemas: dict[str, Schema] = {}
        self.names = Names()
        self.in_flight = 0
        self.pulse = Pulse(address, self._probe, silent)
        self._channel = open_channel(address, tls)
        self._stub: shard_pb2_grpc.ShardServiceAsyncStub = shard_pb2_grpc.ShardServiceStub(
            self._channel
        )
        self.line = Line(self._stub)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._changed = changed
        self._hedge_quantile = hedge_quantile
        self._call_seconds: dict[str, Recent] = {}

    def call_seconds(self, kind: str) -> Recent:
        """How long its calls of one kind nearly always take."""
        found = self._call_seconds.get(kind)
        if found is None:
            found = self._call_seconds[kind] = Recent(self._hedge_quantile, ASSUMED_CALL_SECONDS)
        return found

    async def watch(self) -> None:
        """Follows the shard for ever."""
        self.pulse.listen(lambda: self.line.is_waiting, self._give_up)
        while True:
            try:
                async for message in self._stub.Watch(
                    shard_pb2.WatchRequest(), wait_for_ready=True
                ):
                    self._apply(message)
            except grpc.aio.AioRpcError as error:
                if self.connected:
                    log.warning(
                        "shard lost", extra={"address": self.address, "detail": error.details()}
                    )
            self.connected = False
            self._changed()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def close(self) -> None:
        """Lets go of it."""
        await self.pulse.stop()
        await self.line.close()
        await self._channel.close()

    def _give_up(self) -> None:
        self.line.give_up(f"has not answered for {self.pulse.silent_seconds:.1f} s")

    async def _probe(self, seconds: float) -> bool:
        request = health_pb2.HealthCheckRequest()
        try:
            await self._health.Check(request, timeout=seconds, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            return False
        return True

    def _apply(self, message: shard_pb2.WatchResponse) -> None:
        if not self.connected:
            log.info("shard found", extra={"address": self.address})
        self.connected = True
        self.pulse.answered()
        if message.full:
            self.states.clear()
            self.schemas.clear()
        for state in message.collections:
            self.states[state.collection] = state
            self.schemas[state.collection] = schema_from_proto(state.schema)
        for name in message.removed:
            self.states.pop(name, None)
            self.schemas.pop(name, None)
        if message.HasField("names"):
            said = message.names
            self.names = Names(said.revision, dict(said.aliases), dict(said.indexes))
        self._changed()

    def __repr__(self) -> str:
        known = "connected" if self.connected else "away"
        return f"<Peer {self.address}, {known}, {self.in_flight} calls in flight>"
