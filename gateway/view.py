"""What a query sees of a collection from beginning to end, and whom it asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from core import tracing
from core.documents import Position
from core.filters.schema import Schema
from core.ranking_wish import OPEN, RankingWish
from gateway.known_statistics import KnownStatistics
from gateway.peer import Peer
from gateway.query import DENSE, LEXICAL, SPARSE, ModelUsed
from gateway.replicas import Call, Generation, Holder, Replicas, Reply, watched


@dataclass(frozen=True, slots=True)
class Target:
    """One shard of a collection: whom to ask for which generation.

    `holders` are the replicas that are connected; with none the shard does not answer.
    """

    shard: int
    replicas: Replicas
    holders: Sequence[Holder] = ()
    epoch: int = 0
    generation: int = 0
    sequence: int = 0

    async def ask(self, kind: str, call: Call[Reply], *, even_silent: bool = False) -> Reply:
        """The shard's answer to a call.

        Raises ShardUnavailable if no replica is there, AioRpcError or TimeoutError.
        """
        began = time.perf_counter()
        try:
            return await self._ask(kind, call, even_silent)
        finally:
            seconds = time.perf_counter() - began
            took = self.replicas.shard_seconds(kind, str(self.shard))
            took.observe(seconds, tracing.exemplar())

    async def _ask(self, kind: str, call: Call[Reply], even_silent: bool) -> Reply:
        if len(self.holders) == 1:
            (holder,) = self.holders
            if even_silent or not holder.peer.pulse.silent:
                return await watched(holder.peer, call)
        order = self.order(even_silent=even_silent)
        return await self.replicas.ask(order, self.wanted, kind, call)

    def order(self, *, even_silent: bool = False) -> list[Peer]:
        """The replicas to ask, best first."""
        return self.replicas.order(self.holders, self.wanted, even_silent=even_silent)

    @property
    def wanted(self) -> Generation:
        """What it is asked for."""
        return self.epoch, self.generation

    @property
    def is_silent(self) -> bool:
        """Whether there are replicas, but none that is worth waiting for."""
        return bool(self.holders) and all(holder.peer.pulse.silent for holder in self.holders)


@dataclass(frozen=True, slots=True)
class View:
    """One collection at one moment: what a query sees from beginning to end.

    `name` is what the caller calls it, `collection` what shards call the index that answers. Its
    vectors have `dimension` components (0: as many as the encoder gives). `schemas` are of the
    shards that have said what attributes their documents have. `statistics` are what is known of
    words in these generations of all shards together.
    """

    name: str
    collection: str
    uid: str
    encoder: ModelUsed
    targets: Sequence[Target]
    dimension: int = 0
    sparse_encoder: ModelUsed | None = None
    search_defaults: RankingWish = OPEN
    schemas: Sequence[Schema] = ()
    statistics: KnownStatistics = field(default_factory=KnownStatistics)

    @property
    def generations(self) -> list[Generation]:
        """Those of the shards, in their order."""
        return [target.wanted for target in self.targets]

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
