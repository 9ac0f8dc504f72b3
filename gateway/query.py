"""A query and its answer, as the narrator knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.documents import AttributeValue, Position
from core.errors import OutOfTime, ShardUnavailable, TriremeError, TritonUnavailable
from core.filters.tree import Node
from core.query_syntax import Constraint, Understood
from core.ranking_wish import OPEN, RankingWish, given
from gateway.fusion import Blended, FusionSettings

DENSE = "dense"
LEXICAL = "lexical"
SPARSE = "sparse"


@dataclass(frozen=True, slots=True)
class RerankSettings:
    """Whether the head is reranked, how many documents of it, and with which share of the score."""

    enabled: bool
    depth: int
    weight: float


@dataclass(frozen=True, slots=True)
class Query:
    """One validated query. `legs` holds DENSE, LEXICAL, SPARSE; empty: all that there are.

    `fusion`, `rerank` and `window` are as `asked`, and as the gateway has them where that says
    nothing, until they are `settled`. `digest` stands for all of the request that must not change
    from page to page. Only documents that match `filter`, written as `filter_text`, and satisfy
    `constraint` may be found; `understood` is what was made of a query with operators, `text` has
    none of these any more.
    """

    collection: str
    text: str
    page_size: int
    window: int
    legs: frozenset[str]
    fusion: FusionSettings
    rerank: RerankSettings
    min_position: Position
    min_coverage: float = 0.0
    page_token: str = ""
    digest: bytes = b""
    group_by: str = ""
    group_size: int = 1
    highlight: bool = False
    asked: RankingWish = OPEN
    filter: Node | None = None
    filter_text: str = ""
    understood: Understood | None = None

    @property
    def constraint(self) -> Constraint | None:
        """What documents must and must not hold; None if the query says nothing of that."""
        return self.understood.constraint if self.understood is not None else None

    def settled(self, defaults: RankingWish) -> Query:
        """The query with what its caller leaves open as its collection says."""
        if defaults == OPEN:
            return self
        said = self.asked.over(defaults)
        window = self.window if said.window is None else max(said.window, self.page_size)
        return replace(
            self,
            fusion=replace(self.fusion, **given(said.fusion)),
            rerank=replace(self.rerank, **given(said.rerank)),
            window=window,
        )

    @property
    def rerank_depth(self) -> int:
        """Documents of the head that are to be reranked."""
        return self.rerank.depth if self.rerank.enabled else 0

    @property
    def head(self) -> int:
        """Documents needed in full: those to be reranked and, if known by then, the first page."""
        return max(0 if self.group_by else self.page_size, self.rerank_depth)


@dataclass(frozen=True, slots=True)
class Degradation:
    """One way in which an answer fell short: at which stage, why, on which shards."""

    stage: str
    reason: str
    message: str
    shards: tuple[int, ...] = ()

    @classmethod
    def of(cls, stage: str, error: TriremeError, shards: tuple[int, ...] = ()) -> Degradation:
        """The degradation that an error at `stage` means."""
        late = isinstance(error, OutOfTime)
        return cls(stage, "OUT_OF_TIME" if late else error.reason, str(error), shards)


@dataclass(frozen=True, slots=True)
class Timing:
    """One stage: start since the request's arrival, length, and the part spent elsewhere, in us."""

    stage: str
    start_microseconds: int
    microseconds: int
    inner_microseconds: int = 0


@dataclass(frozen=True, slots=True)
class LegPlan:
    """How a leg found what matches a filter: in which ways, `matching` of how many `documents`.

    `shortfall` says why it found fewer than both its window and `matching`; empty if it did not.
    """

    strategies: Sequence[str]
    matching: int
    documents: int
    shortfall: str = ""


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """How a filter was applied, by the legs that answered."""

    expression: str
    legs: Mapping[str, LegPlan]


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """One version of a model."""

    model: str
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What one shard contributed from."""

    shard: int
    complete: bool
    epoch: int
    generation: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document as its shard holds it: serialised, with the span of its best passage in bytes.

    `highlights` are spans of words in its text, `title_highlights` in its title: first byte and one
    past the last, in turn. `unmet` are the parts of the filter that it does not match, `violated`
    those of the query's constraint, if that was asked.
    """

    document: bytes
    start_byte: int
    end_byte: int
    token_ids: Sequence[int]
    highlights: Sequence[int] = ()
    title_highlights: Sequence[int] = ()
    unmet: Sequence[str] = ()
    violated: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One document of the answer with why it is there."""

    ranked: Blended
    fetched: Fetched


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits of a group, and how many of the candidates are in it."""

    value: AttributeValue | None
    hits: Sequence[Hit]
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of the answer to a query; complete exactly if `degraded` is empty.

    `reranked` documents were. `next_page_token` is empty and `expires` None on the last page.
    """

    hits: Sequence[Hit]
    groups: Sequence[HitGroup]
    degraded: Sequence[Degradation]
    timings: Sequence[Timing]
    total_microseconds: int
    shards: Sequence[ShardAnswer]
    fusion: FusionSettings
    rerank: RerankSettings
    reranked: int
    window: int
    coverage: float
    candidate_count: int
    encoder: ModelUsed | None
    sparse_encoder: ModelUsed | None
    reranker: ModelUsed | None
    next_page_token: str = ""
    expires: datetime | None = None
    filter_plan: FilterPlan | None = None
    understood: Understood | None = None

    @property
    def lacks_a_peer(self) -> bool:
        """Whether a shard or Triton did not answer, rather than too late."""
        reasons = {each.reason for each in self.degraded}
        return not reasons.isdisjoint((ShardUnavailable.reason, TritonUnavailable.reason))
