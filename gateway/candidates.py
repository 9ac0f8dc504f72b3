"""What a search found, frozen: every page of its answer is made from this and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.fusion import Blended, FusionSettings, Order, Rankings, blend
from gateway.groups import Group, Memberships, form_groups
from gateway.query import Degradation, ModelUsed, RerankSettings, ShardAnswer


@dataclass(frozen=True, slots=True)
class Candidates:
    """The documents that any leg found, and all that decides their order.

    `rankings` are those of the legs, `order` is them fused. `logits` belong to the first of `order`
    that are not `left_out`: those of which too little was known to show them, as `degraded` says.
    `memberships` are the candidates' groups, None if none were asked for. `encoder`,
    `sparse_encoder` and `reranker` are None if they had no part in it.
    """

    uid: str
    rankings: Rankings
    order: Order
    fusion: FusionSettings
    rerank: RerankSettings
    window: int
    shards: Sequence[ShardAnswer]
    degraded: Sequence[Degradation]
    coverage: float
    encoder: ModelUsed | None = None
    sparse_encoder: ModelUsed | None = None
    reranker: ModelUsed | None = None
    logits: Sequence[float] = ()
    left_out: frozenset[str] = frozenset()
    memberships: Memberships | None = None

    def __len__(self) -> int:
        """Documents that all pages together can show."""
        return len(self.order) - len(self.left_out)

    def ranking(self, limit: int | None = None) -> list[Blended]:
        """The best `limit` in their final order, all by default; the same at every call."""
        limit = len(self) if limit is None else limit
        # One more than the head, since the head's scores are put above those of the rest.
        needed = max(limit, len(self.logits)) + len(self.left_out) + 1
        fused = [each for each in self.order[:needed] if each.id not in self.left_out]
        return blend(fused, self.logits, self.rerank.weight)[:limit]

    def groups(self) -> list[Group]:
        """All groups, by their best members."""
        return form_groups(self.ranking(), self.memberships or {})

    def __repr__(self) -> str:
        return f"<Candidates {len(self)}, {len(self.logits)} reranked>"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a walk over pages: the candidates, hits or groups before it, when it expires."""

    candidates: Candidates
    offset: int
    expires: datetime
