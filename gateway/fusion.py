"""Ranks become one ranking: pure functions over plain data.

Reciprocal rank fusion: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR 2009.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

RRF = "rrf"
METHODS = (RRF,)


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How legs are fused. `k` is the rank constant, weights are per leg."""

    method: str = RRF
    k: float = 60.0
    dense_weight: float = 1.0
    lexical_weight: float = 1.0

    def weight(self, leg: str) -> float:
        """The weight of a leg by its name."""
        return self.dense_weight if leg == "dense" else self.lexical_weight


@dataclass(frozen=True, slots=True)
class Candidate:
    """One document in one leg of one shard."""

    id: str
    score: float
    shard: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in one leg: rank from 1, the leg's score, what it added to the fused score."""

    rank: int
    score: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Fused:
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
    everything = (candidate for ranking in rankings for candidate in ranking)
    return heapq.nsmallest(limit, everything, key=lambda c: (-c.score, c.id))


def fuse(legs: Mapping[str, Sequence[Candidate]], settings: FusionSettings) -> list[Fused]:
    """All documents of all legs by descending fused score, ties by ascending id.

    A document's score is the sum over legs of weight / (k + rank). A leg of weight 0 still lends
    its documents, with no score of their own.
    """
    places: dict[str, dict[str, Place]] = {}
    shards: dict[str, int] = {}
    for leg, ranking in legs.items():
        weight = settings.weight(leg)
        for rank, candidate in enumerate(ranking, start=1):
            contribution = weight / (settings.k + rank)
            place = Place(rank, candidate.score, contribution)
            places.setdefault(candidate.id, {})[leg] = place
            shards[candidate.id] = candidate.shard
    scores = {id: sum(p.contribution for p in found.values()) for id, found in places.items()}
    order = sorted(scores, key=lambda id: (-scores[id], id))
    return [
        Fused(id, shards[id], scores[id], rank, places[id])
        for rank, id in enumerate(order, start=1)
    ]


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
