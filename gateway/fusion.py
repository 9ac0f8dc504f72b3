"""Several legs become one ranking: pure functions over plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import neg
from typing import NamedTuple

from core.ranking_wish import RRF
from gateway.contributions import METHODS, brought_to_unit


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How legs are fused. `k` is the rank constant of RRF, weights are per leg."""

    method: str = RRF
    k: float = 60.0
    dense_weight: float = 1.0
    lexical_weight: float = 1.0
    sparse_weight: float = 1.0

    def weight(self, leg: str) -> float:
        """The weight of a leg by its name."""
        weight: float = getattr(self, f"{leg}_weight")
        return weight


class Candidate(NamedTuple):
    """One document in one leg of one shard."""

    id: str
    score: float
    shard: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates of one leg, best first, column by column: an object for each would cost more."""

    ids: Sequence[str] = ()
    scores: Sequence[float] = ()
    shards: Sequence[int] = ()

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> Ranking:
        """These candidates, best first."""
        found = list(candidates)
        return cls([c.id for c in found], [c.score for c in found], [c.shard for c in found])

    def first(self, count: int) -> Ranking:
        """The best `count` of them."""
        return Ranking(self.ids[:count], self.scores[:count], self.shards[:count])

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Candidate]:
        return map(Candidate, self.ids, self.scores, self.shards)


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


Rankings = Mapping[str, Ranking]
"""What each leg found, by its name."""


class _Leg(NamedTuple):
    """One leg's candidates by their rows, best first, and what each adds to the fused score."""

    name: str
    found: Ranking
    added: Sequence[float]
    rows: Mapping[str, int]


class Order:
    """All candidates by descending fused score, ties by ascending id.

    `order[a:b]` are the documents in these places, best first, with all there is to say of them.
    """

    def __init__(self, legs: Rankings, settings: FusionSettings) -> None:
        self._legs = _weighed(legs, settings)
        self._scores = _sums(self._legs)
        self.ids: Sequence[str] = sorted(
            sorted(self._scores), key=self._scores.__getitem__, reverse=True
        )
        self._first: list[Fused] = []  # as many as anybody has asked for

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> list[Fused]:
        start, stop, _ = part.indices(len(self.ids))
        known = len(self._first)
        for rank, id in enumerate(self.ids[known:stop], start=known + 1):
            self._first.append(self._fused(id, rank))
        return self._first[start:stop]

    def _fused(self, id: str, rank: int) -> Fused:
        shard, places = 0, {}
        for leg in self._legs:
            row = leg.rows.get(id)
            if row is not None:
                shard = leg.found.shards[row]
                places[leg.name] = Place(row + 1, leg.found.scores[row], leg.added[row])
        return Fused(id, shard, self._scores[id], rank, places)

    def __repr__(self) -> str:
        return f"<Order of {len(self.ids)} candidates of {len(self._legs)} legs>"


def _weighed(legs: Rankings, settings: FusionSettings) -> list[_Leg]:
    # Sums do not depend on the order in which legs are given, not even in the last digit.
    found = [(name, ranking) for name, ranking in sorted(legs.items()) if ranking]
    weights = [settings.weight(name) for name, _ in found]
    if not any(weights):
        weights = [1.0] * len(found)
    add = METHODS[settings.method]
    weighed = []
    for (name, ranking), weight in zip(found, weights, strict=True):
        rows = dict(zip(ranking.ids, range(len(ranking)), strict=True))
        weighed.append(_Leg(name, ranking, add(ranking.scores, weight, settings.k), rows))
    return weighed


def _sums(legs: Iterable[_Leg]) -> dict[str, float]:
    """What all legs add to each document's score."""
    scores: dict[str, float] = {}
    for leg in legs:
        if not scores:
            scores = dict(zip(leg.found.ids, leg.added, strict=True))
            continue
        for id, added in zip(leg.found.ids, leg.added, strict=True):
            scores[id] = scores.get(id, 0.0) + added
    return scores


def scores_by_shard(legs: Rankings, settings: FusionSettings) -> dict[int, dict[str, float]]:
    """What `fuse` would score every document of these legs, in no order."""
    weighed = _weighed(legs, settings)
    scores = _sums(weighed)
    shards: dict[str, int] = {}
    for leg in weighed:
        shards.update(zip(leg.found.ids, leg.found.shards, strict=True))
    found: dict[int, dict[str, float]] = {}
    for id, shard in shards.items():
        found.setdefault(shard, {})[id] = scores[id]
    return found


def merge(rankings: Iterable[Ranking], limit: int) -> Ranking:
    """The best `limit` candidates of all shards by descending score, ties by ascending id.

    Each of `rankings` is in this order already.
    """
    found = [ranking for ranking in rankings if ranking]
    if len(found) == 1:
        return found[0].first(limit)
    rows = (zip(map(neg, each.scores), each.ids, each.shards, strict=True) for each in found)
    best = sorted(chain.from_iterable(rows))[:limit]
    if not best:
        return Ranking()
    negated, ids, shards = zip(*best, strict=True)
    return Ranking(ids, tuple(map(neg, negated)), shards)


def fuse(legs: Rankings, settings: FusionSettings) -> Order:
    """All documents of all legs in one order; a document's score is the sum of what legs add.

    A leg of weight 0 still lends its documents, with no score of their own; if all that found
    anything have weight 0, all count alike. No leg adds less than 0, so that a document that a leg
    has found is never worse for it.
    """
    return Order(legs, settings)


@dataclass(frozen=True, slots=True)
class Blended:
    """One document in its final place, with what fusion and the cross-encoder gave to its score.

    `logit` is None if it was not reranked.
    """

    fused: Fused
    fused_part: float
    rerank_part: float = 0.0
    logit: float | None = None

    @property
    def score(self) -> float:
        """The final score."""
        return self.fused_part + self.rerank_part


def blend(ranking: Sequence[Fused], logits: Sequence[float], weight: float) -> list[Blended]:
    """The final ranking: the head that has `logits` in blended order, then the rest as fused.

    Within the head both scores are brought to 0..1 by min-max; `weight` is the share of the logits.
    The fused score of the best document below the head is added, so that scores descend.

    With a weight under 1/2, the best of the head by fusion is overtaken by no document whose own
    fused score, brought to 0..1, is under 1 - weight / (1 - weight), whatever the logits are.
    """
    head, tail = ranking[: len(logits)], ranking[len(logits) :]
    floor = tail[0].score if tail else 0.0
    by_fusion = brought_to_unit([fused.score for fused in head])
    by_logit = brought_to_unit(logits)
    blended = [
        Blended(fused, floor + (1 - weight) * fusion, weight * judged, logit)
        for fused, fusion, judged, logit in zip(head, by_fusion, by_logit, logits, strict=True)
    ]
    blended.sort(key=lambda b: (-b.score, b.fused.rank))
    return blended + [Blended(fused, fused.score) for fused in tail]
