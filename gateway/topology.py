"""Which shard serves what, kept up to date by the streams that shards push.

One watch per shard address. A shard whose watch is broken counts as not answering until it is back;
what it served last is remembered, so that its absence can be named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from core.deadline import Deadline
from core.documents import Position
from core.errors import NotFound, ShardUnavailable
from core.rpc import open_channel
from gateway.query import DENSE, LEXICAL, SPARSE, ModelUsed
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """One shard of a collection: whom to ask for which generation.

    `stub` is None while the shard does not answer.
    """

    shard: int
    stub: shard_pb2_grpc.ShardServiceAsyncStub | None
    epoch: int = 0
    generation: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """One collection at one moment: what a query sees from beginning to end.

    Its vectors have `dimension` components (0: as many as the encoder gives).
    """

    collection: str
    uid: str
    encoder: ModelUsed
    targets: Sequence[Target]
    dimension: int = 0
    sparse_encoder: ModelUsed | None = None

    @property
    def legs(self) -> frozenset[str]:
        """The legs that the collection has."""
        always = frozenset({DENSE, LEXICAL})
        return always if self.sparse_encoder is None else always | {SPARSE}

    def covers(self, position: Position) -> bool:
        """Whether every shard that `position` names has published up to it."""
        reached = {target.shard: target.sequence for target in self.targets}
        wanted = position.sequences.items()
        return all(reached.get(shard, 0) >= sequence for shard, sequence in wanted)


class Peer:
    """One shard process: its channel, its watch, what it serves."""

    def __init__(self, address: str, changed: Callable[[], None]) -> None:
        self.address = address
        self.connected = False
        self.states: dict[str, shard_pb2.CollectionState] = {}
        self._channel = open_channel(address)
        self.stub: shard_pb2_grpc.ShardServiceAsyncStub = shard_pb2_grpc.ShardServiceStub(
            self._channel
        )
        self._changed = changed

    async def watch(self) -> None:
        """Follows the shard for ever."""
        while True:
            try:
                async for message in self.stub.Watch(shard_pb2.WatchRequest(), wait_for_ready=True):
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
        await self._channel.close()

    def _apply(self, message: shard_pb2.WatchResponse) -> None:
        if not self.connected:
            log.info("shard found", extra={"address": self.address})
        self.connected = True
        if message.full:
            self.states.clear()
        for state in message.collections:
            self.states[state.collection] = state
        for name in message.removed:
            self.states.pop(name, None)
        self._changed()


class Topology:
    """All shards of this gateway."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._changed = asyncio.Event()
        self._peers = [Peer(address, self._notify) for address in addresses]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to follow every shard."""
        self._tasks = [asyncio.create_task(peer.watch()) for peer in self._peers]

    async def stop(self) -> None:
        """Lets go of every shard."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self._peers:
            await peer.close()

    async def first_contact(self) -> None:
        """Waits until at least one shard has said what it serves."""
        while not any(peer.connected for peer in self._peers):
            await self._next_change()

    def view(self, collection: str) -> View:
        """The collection as it is served now.

        Raises NotFound if no shard serves it, ShardUnavailable if none answers.
        """
        holders = {
            peer.states[collection].shard: peer for peer in self._peers if collection in peer.states
        }
        if not holders:
            raise self._unknown(collection)
        states = {shard: peer.states[collection] for shard, peer in holders.items()}
        if not any(peer.connected for peer in holders.values()):
            raise ShardUnavailable(
                f"none of the {len(self._peers)} shards answers", remedy="try again shortly"
            )
        newest = max(states.values(), key=lambda state: (state.epoch, state.generation))
        return View(
            collection=collection,
            uid=newest.uid,
            encoder=ModelUsed(
                newest.encoder_model, newest.encoder_version, newest.encoder_fingerprint
            ),
            targets=[_target(shard, holders, states) for shard in range(newest.shard_count)],
            dimension=newest.dimension,
            sparse_encoder=_sparse_encoder(newest),
        )

    async def view_covering(
        self, collection: str, position: Position, deadline: Deadline
    ) -> tuple[View, bool]:
        """The collection once it covers `position`, or as it is when the deadline comes.

        The second value says whether it covers it.
        """
        view = self.view(collection)
        while not view.covers(position):
            try:
                async with asyncio.timeout(deadline.remaining()):
                    await self._next_change()
            except TimeoutError:
                return view, False
            view = self.view(collection)
        return view, True

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits until `condition` holds, looking again at every change; False if it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._next_change()
        return condition()

    def serves(self, collection: str) -> bool:
        """Whether every connected shard serves the collection."""
        peers = [peer for peer in self._peers if peer.connected]
        return bool(peers) and all(collection in peer.states for peer in peers)

    def serves_nowhere(self, collection: str) -> bool:
        """Whether no connected shard serves the collection."""
        return not any(peer.connected and collection in peer.states for peer in self._peers)

    def _unknown(self, collection: str) -> NotFound | ShardUnavailable:
        if not any(peer.connected for peer in self._peers):
            return ShardUnavailable(
                f"none of the {len(self._peers)} shards answers", remedy="try again shortly"
            )
        return NotFound(
            "COLLECTION_NOT_FOUND",
            f"there is no collection {collection!r}",
            field="collection",
            remedy="create it first, or see ListCollections for the names",
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def __repr__(self) -> str:
        connected = sum(peer.connected for peer in self._peers)
        return f"<Topology {connected} of {len(self._peers)} shards>"


def _sparse_encoder(state: shard_pb2.CollectionState) -> ModelUsed | None:
    if not state.sparse_encoder_model:
        return None
    return ModelUsed(
        state.sparse_encoder_model,
        state.sparse_encoder_version,
        state.sparse_encoder_fingerprint,
    )


def _target(
    shard: int,
    holders: Mapping[int, Peer],
    states: Mapping[int, shard_pb2.CollectionState],
) -> Target:
    if shard not in holders:
        return Target(shard, None)
    state, peer = states[shard], holders[shard]
    stub = peer.stub if peer.connected else None
    return Target(shard, stub, state.epoch, state.generation, state.sequence)
