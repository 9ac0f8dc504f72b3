"""One process that sends queries when they are due and notes what comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from core.rpc import CHANNEL_OPTIONS, reason_of
from deploy.cli.access import Access
from deploy.cli.reply import stage_name
from deploy.load.scenario import Shape
from deploy.load.tally import Tally
from trireme.v1 import error_reason_pb2, search_pb2, search_pb2_grpc

CONNECT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask for what; `connections` are those of each process."""

    access: Access
    collection: str
    shapes: tuple[Shape, ...]
    queries: tuple[str, ...]
    deadline: float
    connections: int = 4


@dataclass(frozen=True, slots=True)
class Part:
    """What one process sends.

    `begin` is a moment of time.monotonic(), `due` holds seconds from it, `shapes` and `queries`
    indexes into the target's, all of one length.
    """

    begin: float
    due: NDArray[np.float64]
    shapes: NDArray[np.int64]
    queries: NDArray[np.int64]


class Sender:
    """`async with Sender(target) as sender: tally = await sender.send(part)`."""

    def __init__(self, target: Target) -> None:
        # Connections of their own, so that several workers behind one port all get some.
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self._target = target
        self._channels = [target.access.open_async(options) for _ in range(target.connections)]
        self._stubs: list[Any] = [search_pb2_grpc.SearchServiceStub(c) for c in self._channels]

    async def __aenter__(self) -> Sender:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*(self._connected(channel) for channel in self._channels))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def send(self, part: Part) -> Tally:
        """Sends each query at its moment and returns when the last is answered or has failed."""
        tally = Tally()
        spent, began = time.process_time(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, due in enumerate(part.begin + part.due):
                if (early := due - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                shape = self._target.shapes[part.shapes[number]]
                query = self._target.queries[part.queries[number]]
                call = self._stubs[number % len(self._stubs)].Search
                group.create_task(self._one(call, shape, query, float(due), tally))
        tally.seconds = time.monotonic() - part.begin
        tally.busy = (time.process_time() - spent) / max(time.monotonic() - began, 1e-9)
        return tally

    async def _connected(self, channel: grpc.aio.Channel) -> None:
        """Raises ConnectionError as soon as it fails, instead of trying on."""
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise ConnectionError(f"nothing answers at {self._target.access.address}")
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)

    async def _one(self, call: Any, shape: Shape, query: str, due: float, tally: Tally) -> None:
        target, sent = self._target, time.monotonic()
        tally.late.record(sent - due)
        request = shape.request(target.collection, query)
        try:
            reply = await call(request, timeout=target.deadline, metadata=shape.metadata)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error) or error.code().name
            tally.failed[reason].record(time.monotonic() - sent)
            return
        taken = time.monotonic() - due
        tally.answered.record(taken)
        tally.shapes[shape.name].record(taken)
        note_reply(reply, tally)


def note_reply(reply: search_pb2.SearchResponse, tally: Tally) -> None:
    """Adds the stages' times and the shortfalls that a reply tells."""
    for timing in reply.timings:
        stage = stage_name(timing.stage)
        tally.stages[stage].record(timing.microseconds / 1e6)
        tally.starts[stage].record(timing.start_microseconds / 1e6)
        if timing.inner_microseconds:
            tally.waits[stage].record(timing.inner_microseconds / 1e6)
    tally.degraded += bool(reply.degraded)
    for shortfall in reply.degraded:
        reason = error_reason_pb2.ErrorReason.Name(shortfall.reason).removeprefix("ERROR_REASON_")
        tally.shortfalls[f"{stage_name(shortfall.stage)}: {reason}"] += 1
