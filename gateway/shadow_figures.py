"""How alike two indexes answer: overlap of their first hits, and nDCG where judged. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.bootstrap import paired_bootstrap

DEPTH = 10


@dataclass(frozen=True, slots=True)
class ShadowQuery:
    """A query for both indexes, with the relevance of documents by id where somebody judged."""

    text: str
    judgments: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """The first document ids that the two indexes found for a query, best first.

    Not `whole` if one of them could not answer it, or only in part.
    """

    query: ShadowQuery
    source: Sequence[str] = ()
    target: Sequence[str] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """What many pairs come to; the names are those of `Comparison` in migration.proto."""

    query_count: int
    incomplete_count: int
    mean_overlap: float
    lowest_overlap: float
    lowest_query: str
    judged_count: int
    source_ndcg: float
    target_ndcg: float
    ndcg_difference_low: float
    ndcg_difference_high: float


def overlap(source: Sequence[str], target: Sequence[str]) -> float:
    """The share of the source's first hits that the target has among its own; 1 if it has none."""
    wanted = set(source[:DEPTH])
    return len(wanted & set(target[:DEPTH])) / len(wanted) if wanted else 1.0


def ndcg(found: Sequence[str], judgments: Mapping[str, int]) -> float:
    """nDCG@10 with the grade as gain; 0 if nothing is relevant.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with the
    discount that trec_eval uses.
    """
    ideal = _dcg(sorted(judgments.values(), reverse=True))
    return _dcg([judgments.get(id, 0) for id in found]) / ideal if ideal else 0.0


def figures(pairs: Sequence[Pair]) -> Figures:
    """Both measures over all pairs that are whole."""
    whole = [pair for pair in pairs if pair.whole]
    overlaps = {pair.query.text: overlap(pair.source, pair.target) for pair in whole if pair.source}
    lowest = min(overlaps, key=lambda text: overlaps[text], default="")
    judged = [pair for pair in whole if any(grade > 0 for grade in pair.query.judgments.values())]
    source = [ndcg(pair.source, pair.query.judgments) for pair in judged]
    target = [ndcg(pair.target, pair.query.judgments) for pair in judged]
    low, high = _interval(source, target)
    return Figures(
        query_count=len(pairs),
        incomplete_count=len(pairs) - len(whole),
        mean_overlap=_mean([*overlaps.values()]) if overlaps else 1.0,
        lowest_overlap=overlaps.get(lowest, 1.0),
        lowest_query=lowest,
        judged_count=len(judged),
        source_ndcg=_mean(source),
        target_ndcg=_mean(target),
        ndcg_difference_low=low,
        ndcg_difference_high=high,
    )


def _dcg(grades: Sequence[int]) -> float:
    return sum(max(0, grade) / math.log2(rank + 2) for rank, grade in enumerate(grades[:DEPTH]))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _interval(source: Sequence[float], target: Sequence[float]) -> tuple[float, float]:
    if not source:
        return 0.0, 0.0
    difference = paired_bootstrap((source, target))
    return difference.low, difference.high
