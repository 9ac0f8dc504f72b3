"""Ranks become one ranking: pure functions over plain data.

Reciprocal rank fusion: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

RRF = "rrf"
METHODS = (RRF,)


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How legs are fused. `k` is the rank constant, weights are per leg."""

    method: str = RRF
    k: float = 60.0
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    sparse_weight: float = 1.0

    def weight(self, leg: str) -> float:
        """The weight of a leg by its name."""
        weights = {
            "dense": self.dense_weight,
            "lexical": self.lexical_weight,
            "sparse": self.sparse_weight,
        }
        return weights[leg]


class Candidate(NamedTuple):
    """One document in one leg of one shard."""

    id: str
    score: float
    shard: int


class Place(NamedTuple):
    """A place in one leg: rank from 1, the leg's score, what it added to the fused score."""

    rank: int
    score: float
    contribution: float


class Fused(NamedTuple):
    """One document after fusion; `places` has one entry per leg that found it."""

    id: str
    shard: int
    score: float
    rank: int
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Blended:
    """One document in its final place; `logit` is None if it was not reranked."""

    fused: Fused
    score: float
    logit: float | None = None


def merge(rankings: Iterable[Sequence[Candidate]], limit: int) -> list[Candidate]:
    """The best `limit` candidates of all shards by descending score, ties by ascending id."""
    ordered = sorted([(-score, id, shard) for id, score, shard in chain.from_iterable(rankings)])
    return [Candidate(id, -score, shard) for score, id, shard in ordered[:limit]]


def fuse(
    legs: Mapping[str, Sequence[Candidate]], settings: FusionSettings, limit: int
) -> list[Fused]:
    """The best `limit` documents of all legs by descending fused score, ties by ascending id.

    A document's score is the sum over legs of weight / (k + rank). A leg of weight 0 still lends
    its documents, with no score of their own.
    """
    scores: dict[str, float] = {}
    for leg, ranking in legs.items():
        weight = settings.weight(leg)
        for rank, (id, _, _) in enumerate(ranking, start=1):
            scores[id] = scores.get(id, 0.0) + weight / (settings.k + rank)
    best = sorted(sorted(scores), key=scores.__getitem__, reverse=True)[:limit]
    places, shards = _places(legs, settings, frozenset(best))
    return [
        Fused(id, shards[id], scores[id], rank, places[id]) for rank, id in enumerate(best, start=1)
    ]


def _places(
    legs: Mapping[str, Sequence[Candidate]], settings: FusionSettings, wanted: frozenset[str]
) -> tuple[dict[str, dict[str, Place]], dict[str, int]]:
    """The places and shards of the wanted documents."""
    places: dict[str, dict[str, Place]] = {id: {} for id in wanted}
    shards: dict[str, int] = {}
    for leg, ranking in legs.items():
        weight = settings.weight(leg)
        for rank, (id, score, shard) in enumerate(ranking, start=1):
            if id in wanted:
                places[id][leg] = Place(rank, score, weight / (settings.k + rank))
                shards[id] = shard
    return places, shards


def blend(ranking: Sequence[Fused], logits: Sequence[float], weight: float) -> list[Blended]:
    """The final ranking: the head that has `logits` in blended order, then the rest as fused.

    Within the head both scores are brought to 0..1 by min-max; `weight` is the share of the logits.
    The fused score of the best document below the head is added, so that scores descend.
    """
    head, tail = ranking[: len(logits)], ranking[len(logits) :]
    floor = tail[0].score if tail else 0.0
    parts = zip(head, _min_max([f.score for f in head]), _min_max(logits), logits, strict=True)
    blended = [
        Blended(fused, floor + (1 - weight) * by_rank + weight * by_logit, logit)
        for fused, by_rank, by_logit, logit in parts
    ]
    blended.sort(key=lambda b: (-b.score, b.fused.rank))
    return blended + [Blended(fused, fused.score) for fused in tail]


def _min_max(values: Sequence[float]) -> list[float]:
    """Values brought to 0..1; all 1 if they are equal."""
    if not values:
        return []
    low, high = min(values), max(values)
    span = high - low
    return [(value - low) / span if span > 0 else 1.0 for value in values]
