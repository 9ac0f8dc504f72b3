"""Which shard serves what, kept up to date by the streams that shards push.

One watch per shard address; several addresses may serve one shard, as replicas. A shard whose watch
is broken counts as not answering until it is back; what it served last is remembered, so that its
absence can be named.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from core.deadline import Deadline
from core.documents import Position
from core.errors import NotFound, ShardUnavailable
from core.ranking_wire import wish_from_proto
from core.ranking_wish import OPEN, RankingWish
from gateway.metrics import GatewayMetrics
from gateway.peer import Peer
from gateway.query import ModelUsed
from gateway.replicas import Generation, Holder, Replicas
from gateway.view import Target, View
from trireme.shard.v1.shard_pb2 import CollectionState
from trireme.v1.ranking_pb2 import SearchDefaults


class Topology:
    """All shards of this gateway.

    A call that takes longer than `hedge_quantile` of those before goes to a second replica too, but
    no more than `hedge_share` of all calls do.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        metrics: GatewayMetrics,
        *,
        hedge_quantile: float = 0.95,
        hedge_share: float = 0.1,
    ) -> None:
        self._changed = asyncio.Event()
        self._peers = [
            Peer(address, self._notify, metrics.silent_peers, hedge_quantile)
            for address in addresses
        ]
        self._replicas = Replicas(hedge_share, metrics)
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
        holders: dict[int, list[Peer]] = {}
        for peer in self._peers:
            if (state := peer.states.get(collection)) is not None:
                holders.setdefault(state.shard, []).append(peer)
        if not holders:
            raise self._unknown(collection)
        states = {shard: _newest(collection, peers) for shard, peers in holders.items()}
        answering = [s for n, s in states.items() if any(peer.connected for peer in holders[n])]
        if not answering:
            raise ShardUnavailable(
                f"none of the {len(self._peers)} shards answers", remedy="try again shortly"
            )
        newest = max(answering, key=_generation)
        return View(
            collection=collection,
            uid=newest.uid,
            encoder=ModelUsed(
                newest.encoder_model, newest.encoder_version, newest.encoder_fingerprint
            ),
            targets=[
                self._target(shard, states.get(shard), holders.get(shard, ()))
                for shard in range(newest.shard_count)
            ],
            dimension=newest.dimension,
            sparse_encoder=_sparse_encoder(newest),
            search_defaults=_search_defaults(newest),
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

    def ranks_by(self, collection: str, defaults: SearchDefaults) -> bool:
        """Whether every connected shard serves the collection with these search defaults."""
        return self.serves(collection) and all(
            peer.states[collection].search_defaults == defaults
            for peer in self._peers
            if peer.connected
        )

    def _target(self, shard: int, state: CollectionState | None, peers: Sequence[Peer]) -> Target:
        if state is None:
            return Target(shard, self._replicas)
        holders = [
            Holder(peer, _generation(other))
            for peer in peers
            if peer.connected and (other := peer.states[state.collection]).uid == state.uid
        ]
        return Target(shard, self._replicas, holders, state.epoch, state.generation, state.sequence)

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


def _sparse_encoder(state: CollectionState) -> ModelUsed | None:
    if not state.sparse_encoder_model:
        return None
    return ModelUsed(
        state.sparse_encoder_model,
        state.sparse_encoder_version,
        state.sparse_encoder_fingerprint,
    )


def _search_defaults(state: CollectionState) -> RankingWish:
    if not state.HasField("search_defaults"):
        return OPEN
    return wish_from_proto(state.search_defaults, "search_defaults.")


def _newest(collection: str, peers: Sequence[Peer]) -> CollectionState:
    """The newest state that a replica serves, or has served if none is connected."""
    connected = [peer for peer in peers if peer.connected] or peers
    return max((peer.states[collection] for peer in connected), key=_generation)


def _generation(state: CollectionState) -> Generation:
    return state.epoch, state.generation
