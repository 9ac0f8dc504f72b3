"""Tries settings by the thousand on candidates that were fetched once.

Fusion and blending are the gateway's own functions, so a setting ranks here as it will there. Only
one thing may differ: a setting may bring a document to the head that the deep request did not
rerank. The head then ends before it, as it does in the gateway when the time is up. What is found
this way is no more than a choice; `verdict.py` puts it to the test with real searches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.evaluation.candidates import Candidates
from deploy.evaluation.measures import Judgements, MeanNdcg
from deploy.evaluation.space import Space, fusion_settings
from deploy.evaluation.systems import System
from gateway.fusion import Fused, blend, fuse

SHOWN = 10
"""Documents of a page that quality looks at."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting and its mean nDCG@10 over the tuning queries."""

    system: System
    quality: float


@dataclass(frozen=True, slots=True)
class _Head:
    """The best of one query's fused list, and the logits of as many of it as are known in a row."""

    fused: Sequence[Fused]
    logits: Sequence[float]


def try_all(
    space: Space,
    candidates: Mapping[str, Candidates],
    judgements: Judgements,
    legs: Sequence[str],
    on_fusion: Callable[[], None],
) -> list[Tried]:
    """Every setting of the space; `candidates` are by query id and cover the widest window.

    `on_fusion` is called after each fusion with all its rerankings.
    """
    ndcg = MeanNdcg(judgements)
    tried: list[Tried] = []
    for fusion in space.fusions(legs):
        heads = {query: _head(found, fusion, space) for query, found in candidates.items()}
        plain = {query: [each.id for each in head.fused] for query, head in heads.items()}
        tried.append(Tried(fusion, ndcg.of(plain)))
        for system, rankings in _reranked(space, fusion, heads):
            tried.append(Tried(system, ndcg.of(rankings)))
        on_fusion()
    return tried


def _head(found: Candidates, fusion: System, space: Space) -> _Head:
    legs = {leg: ranking.first(fusion.window) for leg, ranking in found.legs.items()}
    # One more than the deepest head: the score of what lies below it belongs to the blend.
    best = fuse(legs, fusion_settings(fusion))[: max(space.deepest, SHOWN) + 1]
    logits: list[float] = []
    for each in best[: space.deepest]:
        if each.id not in found.logits:
            break
        logits.append(found.logits[each.id])
    return _Head(best, logits)


def _reranked(
    space: Space, fusion: System, heads: Mapping[str, _Head]
) -> Iterator[tuple[System, dict[str, list[str]]]]:
    for system in space.rerankings(fusion):
        rankings = {query: _blended(head, system) for query, head in heads.items()}
        yield system, rankings


def _blended(head: _Head, system: System) -> list[str]:
    needed = head.fused[: max(system.depth, SHOWN) + 1]
    final = blend(needed, head.logits[: system.depth], system.blend or 0.0)
    return [each.fused.id for each in final[:SHOWN]]
