"""What the legs of one query found, before and after it is frozen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.candidates import Candidates
from gateway.fusion import Fused, Order
from gateway.groups import Memberships
from gateway.legs import Legs
from gateway.query import Degradation, Query, ShardAnswer
from gateway.rerank import Reranked
from gateway.scatter import Leg
from gateway.view import View


@dataclass(frozen=True, slots=True)
class Found:
    """A settled query with what its legs found, in fused order.

    `memberships` holds the groups of the candidates whose shards told, None if no groups were asked
    for.
    """

    query: Query
    view: View
    legs: Legs
    order: Order
    coverage: float
    memberships: Memberships | None

    @property
    def ungrouped(self) -> frozenset[str]:
        """Candidates that cannot be put into groups, since their shards did not answer."""
        if self.memberships is None:
            return frozenset()
        return frozenset(self.order.ids) - self.memberships.keys()

    def head(self) -> list[Fused]:
        """The candidates that are needed in full before reranking."""
        count, ungrouped = self.query.head, self.ungrouped
        fused = self.order[: count + len(ungrouped)]
        return [each for each in fused if each.id not in ungrouped][:count]

    def freeze(
        self, reranked: Reranked, lost: Collection[str], degraded: Sequence[Degradation]
    ) -> Candidates:
        """The candidates as all pages show them, without those `lost` when they were fetched."""
        query, view, legs = self.query, self.view, self.legs
        return Candidates(
            uid=view.uid,
            rankings={name: leg.ranking for name, leg in legs.found.items()},
            order=self.order,
            fusion=query.fusion,
            rerank=query.rerank,
            window=query.window,
            shards=[_shard_answer(target.shard, legs.found) for target in view.targets],
            degraded=degraded,
            coverage=self.coverage,
            encoder=view.encoder if legs.meaning.vector is not None else None,
            sparse_encoder=view.sparse_encoder if legs.meaning.terms is not None else None,
            reranker=reranked.model,
            logits=reranked.logits,
            left_out=self.ungrouped.union(lost),
            memberships=self.memberships,
        )


def _shard_answer(shard: int, legs: Mapping[str, Leg]) -> ShardAnswer:
    used = [leg.answered[shard] for leg in legs.values() if shard in leg.answered]
    if not used:
        return ShardAnswer(shard, False, 0, 0, 0)
    oldest = min(used, key=lambda generation: generation.sequence)
    complete = len(used) == len(legs)
    return ShardAnswer(shard, complete, oldest.epoch, oldest.generation, oldest.sequence)
