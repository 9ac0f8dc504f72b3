"""A query and its answer, as the narrator knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.documents import Position
from core.errors import OutOfTime, TriremeError
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
    """One validated query. `legs` holds DENSE, LEXICAL, SPARSE; empty: all that there are."""

    collection: str
    text: str
    page_size: int
    window: int
    legs: frozenset[str]
    fusion: FusionSettings
    rerank: RerankSettings
    min_position: Position

    @property
    def rerank_depth(self) -> int:
        """Documents of the head that are to be reranked."""
        return self.rerank.depth if self.rerank.enabled else 0

    @property
    def head(self) -> int:
        """Documents that are needed in full: those on the page and those to be reranked."""
        return max(self.page_size, self.rerank_depth)


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
    """A document as its shard holds it: serialised, with the span of its best passage in bytes."""

    document: bytes
    start_byte: int
    end_byte: int
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Hit:
    """One document of the answer with why it is there."""

    ranked: Blended
    fetched: Fetched


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one query; complete exactly if `degraded` is empty."""

    hits: Sequence[Hit]
    degraded: Sequence[Degradation]
    timings: Sequence[Timing]
    total_microseconds: int
    shards: Sequence[ShardAnswer]
    fusion: FusionSettings
    rerank: RerankSettings
    reranked: int
    encoder: ModelUsed | None = None
    sparse_encoder: ModelUsed | None = None
    reranker: ModelUsed | None = None
