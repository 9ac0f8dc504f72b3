"""Quality of rankings per query, by ir-measures (trec_eval's own code for these measures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, nDCG

Judgements = Mapping[str, Mapping[str, int]]
Rankings = Mapping[str, Sequence[str]]
"""Document ids by query id, best first."""

MAIN = "ndcg@10"


class Quality:
    """Measures rankings against judgements; `names` are in the order of a report."""

    def __init__(self, judgements: Judgements, recall_at: int = 100) -> None:
        self._measures = {
            MAIN: nDCG @ 10,
            "mrr@10": RR @ 10,
            "map": AP,
            f"recall@{recall_at}": R @ recall_at,
        }
        self._evaluator = ir_measures.evaluator(list(self._measures.values()), judgements)
        self._queries = tuple(judgements)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the measures."""
        return tuple(self._measures)

    def per_query(self, rankings: Rankings) -> dict[str, list[float]]:
        """Each measure's value per judged query, in the order of the judgements.

        A query without a ranking counts 0. Average precision is over the whole ranking.
        """
        run = {query: _scored(ids) for query, ids in rankings.items()}
        found: dict[str, dict[str, float]] = {name: {} for name in self._measures}
        name_of = {measure: name for name, measure in self._measures.items()}
        for metric in self._evaluator.iter_calc(run):
            found[name_of[metric.measure]][metric.query_id] = float(metric.value)
        return {
            name: [values.get(query, 0.0) for query in self._queries]
            for name, values in found.items()
        }


class MeanNdcg:
    """Mean nDCG@10 alone, for trying settings by the thousand."""

    def __init__(self, judgements: Judgements) -> None:
        self._evaluator = ir_measures.evaluator([nDCG @ 10], judgements)

    def of(self, rankings: Rankings) -> float:
        """Over all judged queries; one without a ranking counts 0."""
        run = {query: _scored(ids[:10]) for query, ids in rankings.items()}
        return float(np.mean([metric.value for metric in self._evaluator.iter_calc(run)]))


def _scored(ids: Sequence[str]) -> dict[str, float]:
    return {id: -float(rank) for rank, id in enumerate(ids)}
