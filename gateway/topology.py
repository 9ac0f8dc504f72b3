"""Which shard serves what, kept up to date by the streams that shards push.

One watch per shard address; several addresses may serve one shard, as replicas. A shard whose watch
is broken counts as not answering until it is back; what it served last is remembered, so that its
absence can be named.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from core.deadline import Deadline
from core.documents import Position
from core.errors import NotFound, ShardUnavailable
from core.security.tls import NO_TLS, TlsSettings
from gateway import peer_states
from gateway.agreed_names import AgreedNames
from gateway.known_statistics import KnownStatistics
from gateway.metrics import GatewayMetrics
from gateway.peer import Peer
from gateway.peer_states import Counted, generation_of
from gateway.query import ModelUsed
from gateway.replicas import Holder, Replicas
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
        tls: TlsSettings = NO_TLS,
    ) -> None:
        self._changed = asyncio.Event()
        self._peers = [
            Peer(address, self._notify, metrics.silent_peers, hedge_quantile, tls)
            for address in addresses
        ]
        self._replicas = Replicas(hedge_share, metrics)
        self._names = AgreedNames(self._wake)
        # Until the next news of any shard, by the name that was asked for and its index.
        self._views: dict[tuple[str, str], View] = {}
        # Of indexes, with what they were counted in.
        self._statistics: dict[str, tuple[Counted, KnownStatistics]] = {}
        self._lookups = metrics.word_statistics_lookups
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to follow every shard."""
        self._tasks = [asyncio.create_task(peer.watch()) for peer in self._peers]

    async def stop(self) -> None:
        """Lets go of every shard."""
        self._names.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self._peers:
            await peer.close()

    async def first_contact(self) -> None:
        """Waits until at least one shard has said what it serves."""
        while not any(peer.connected for peer in self._peers):
            await self._next_change()

    def view(self, name: str) -> View:
        """The collection that a name or alias stands for, as it is served now.

        Raises NotFound if no shard serves it, ShardUnavailable if none answers.
        """
        return self._view(name, self._index(name))

    def view_of(self, name: str, uid: str) -> View:
        """What `name` stood for when that was the index `uid`, if it is still served.

        Otherwise what it stands for now, and raises as `view` does.
        """
        for index in (self._index(name), *self._indexes(uid)):
            if any(index in p.states and p.states[index].uid == uid for p in self._peers):
                return self._view(name, index)
        return self.view(name)

    def stands_for(self, name: str) -> str:
        """The collection that an alias stands for, its own name for any other."""
        return self._names.current.collection(name)

    def index(self, name: str) -> str:
        """What shards call the index that answers for a collection or alias."""
        return self._index(name)

    def idle_indexes(self) -> set[str]:
        """Second indexes of collections that are served but do not answer, by internal name."""
        served = {name for peer in self._peers if peer.connected for name in peer.states}
        numbered = {name for name in served if "~" in name}
        return {name for name in numbered if self._index(name.partition("~")[0]) != name}

    def _index(self, name: str) -> str:
        names = self._names.current
        return names.index(names.collection(name))

    def _indexes(self, uid: str) -> set[str]:
        """What shards call the index `uid`; normally one name, or none if it is gone."""
        return {n for p in self._peers for n, state in p.states.items() if state.uid == uid}

    def _view(self, name: str, collection: str) -> View:
        view = self._views.get((name, collection))
        if view is None:
            view = self._views[name, collection] = self._look(name, collection)
        return view

    def _look(self, name: str, collection: str) -> View:
        holders: dict[int, list[Peer]] = {}
        for peer in self._peers:
            if (state := peer.states.get(collection)) is not None:
                holders.setdefault(state.shard, []).append(peer)
        if not holders:
            raise self._unknown(name)
        states = {shard: peer_states.newest(collection, peers) for shard, peers in holders.items()}
        answering = [s for n, s in states.items() if any(peer.connected for peer in holders[n])]
        if not answering:
            raise ShardUnavailable(
                f"none of the {len(self._peers)} shards answers", remedy="try again shortly"
            )
        newest = max(answering, key=generation_of)
        return View(
            name=name,
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
            sparse_encoder=peer_states.sparse_encoder(newest),
            search_defaults=peer_states.search_defaults(newest),
            schemas=peer_states.schemas(collection, states, holders),
            statistics=self._known_statistics(collection, states),
        )

    def _known_statistics(
        self, collection: str, states: Mapping[int, CollectionState]
    ) -> KnownStatistics:
        """Those from queries before, if they were counted in the same generations."""
        counted = peer_states.counted(states)
        before = self._statistics.get(collection)
        if before is not None and before[0] == counted:
            return before[1]
        analyzer = peer_states.analyzer(states.values())
        known = KnownStatistics(analyzer, self._lookups)
        self._statistics[collection] = counted, known
        return known

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
        peers, index = [peer for peer in self._peers if peer.connected], self._index(collection)
        return bool(peers) and all(index in peer.states for peer in peers)

    def serves_nowhere(self, collection: str) -> bool:
        """Whether no connected shard serves the collection."""
        index = self._index(collection)
        return not any(peer.connected and index in peer.states for peer in self._peers)

    def ranks_by(self, collection: str, defaults: SearchDefaults) -> bool:
        """Whether every connected shard serves the collection with these search defaults."""
        index = self._index(collection)
        return self.serves(collection) and all(
            peer.states[index].search_defaults == defaults for peer in self._peers if peer.connected
        )

    def _target(self, shard: int, state: CollectionState | None, peers: Sequence[Peer]) -> Target:
        if state is None:
            return Target(shard, self._replicas)
        holders = [
            Holder(peer, generation_of(other))
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
        self._views.clear()
        for gone in self._statistics.keys() - {n for peer in self._peers for n in peer.states}:
            del self._statistics[gone]
        self._names.look([peer.names for peer in self._peers if peer.connected])
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def __repr__(self) -> str:
        connected = sum(peer.connected for peer in self._peers)
        return f"<Topology {connected} of {len(self._peers)} shards>"
