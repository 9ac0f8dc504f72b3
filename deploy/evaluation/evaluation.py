"""What was measured: quality and latency per system, and how sure their differences are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from core.bootstrap import RESAMPLES, Difference, interval, paired_bootstrap
from core.errors import InvalidInput
from deploy.evaluation.measures import MAIN, Judgements, Quality
from deploy.evaluation.runs import Run

SIGNIFICANT = 0.05
Pair = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Measured:
    """One system: each measure per query, in the order of the judged queries."""

    run: Run
    per_query: Mapping[str, Sequence[float]]

    @property
    def name(self) -> str:
        """Of the system."""
        return self.run.system.name

    def mean(self, measure: str = MAIN) -> float:
        """Over the queries."""
        return float(np.mean(self.per_query[measure]))

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean nDCG@10."""
        return interval(self.per_query[MAIN])

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latency."""
        return float(np.percentile(list(self.run.milliseconds.values()), percent))

    def settings(self) -> dict[str, Any]:
        """Fusion, reranking and window as the gateway says that it used them."""
        last = self.run.last
        said: dict[str, Any] = {"window": last.window}
        for name in ("fusion", "rerank"):
            said[name] = MessageToDict(getattr(last, name), preserving_proto_field_name=True)
        return said

    def as_dict(self) -> dict[str, Any]:
        """For JSON; nDCG@10 per query is there for later comparisons."""
        low, high = self.interval()
        return {
            **{measure: round(self.mean(measure), 4) for measure in self.per_query},
            "interval": {"low": round(low, 4), "high": round(high, 4)},
            "p50_ms": round(self.milliseconds(50), 2),
            "p95_ms": round(self.milliseconds(95), 2),
            "degraded": self.run.degraded,
            "settings": self.settings(),
            "per_query": dict(
                zip(self.run.rankings, np.round(self.per_query[MAIN], 4).tolist(), strict=True)
            ),
        }

    def __repr__(self) -> str:
        return f"<Measured {self.name} {MAIN} {self.mean():.4f}>"


@dataclass(frozen=True, slots=True)
class Comparison:
    """nDCG@10 of `after` less that of `before`, over the same queries."""

    before: str
    after: str
    difference: Difference

    @property
    def significant(self) -> bool:
        """Whether a difference is there, at 5 % and two-sided."""
        return self.difference.two_sided_p < SIGNIFICANT

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `p` is two-sided."""
        return {
            "before": self.before,
            "after": self.after,
            "measure": MAIN,
            "delta": round(self.difference.mean, 4),
            "low": round(self.difference.low, 4),
            "high": round(self.difference.high, 4),
            "p": round(self.difference.two_sided_p, 4),
        }


def p_value(p: float) -> str:
    """A two-sided p with its sign, no smaller than what the resamples can tell."""
    least = 2 / RESAMPLES
    return f"< {least:.4f}" if p < least else f"= {p:.4f}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All systems on one judged collection; `queries` are texts by id, in judged order."""

    dataset: str
    split: str
    documents: int
    queries: Mapping[str, str]
    systems: Sequence[Measured]
    comparisons: Sequence[Comparison]
    command: str
    date: str

    def system(self, name: str) -> Measured:
        """By its name."""
        return next(each for each in self.systems if each.name == name)

    def models(self) -> dict[str, str]:
        """Encoder, sparse encoder and reranker as NAME:VERSION, those that were used."""
        used: dict[str, str] = {}
        for role in ("encoder", "sparse_encoder", "reranker"):
            for each in self.systems:
                model = getattr(each.run.last, role)
                if model.model:
                    used[role] = f"{model.model}:{model.version}"
        return used

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "documents": self.documents,
            "queries": len(self.queries),
            "date": self.date,
            "command": self.command,
            "models": self.models(),
            "systems": {each.name: each.as_dict() for each in self.systems},
            "comparisons": [each.as_dict() for each in self.comparisons],
        }


def measure(runs: Sequence[Run], judgements: Judgements, recall_at: int) -> list[Measured]:
    """Each run's figures."""
    quality = Quality(judgements, recall_at)
    return [Measured(run, quality.per_query(run.rankings)) for run in runs]


def compare(systems: Sequence[Measured], pairs: Sequence[Pair]) -> list[Comparison]:
    """The given pairs; without any, all."""
    by_name = {each.name: each.per_query[MAIN] for each in systems}
    wanted = pairs or list(itertools.combinations(by_name, 2))
    return [
        Comparison(before, after, paired_bootstrap((by_name[before], by_name[after])))
        for before, after in wanted
    ]


def compare_with(earlier: Mapping[str, Any], systems: Sequence[Measured]) -> list[Comparison]:
    """Systems of an earlier report (its JSON) with those of the same name now.

    Over the queries that both measured. Raises InvalidInput if they share none.
    """
    found = []
    for each in systems:
        before = earlier.get("systems", {}).get(each.name, {}).get("per_query", {})
        now = dict(zip(each.run.rankings, each.per_query[MAIN], strict=True))
        if shared := [query for query in now if query in before]:
            pair = [before[query] for query in shared], [now[query] for query in shared]
            found.append(Comparison(f"{each.name} before", each.name, paired_bootstrap(pair)))
    if not found:
        raise InvalidInput(
            "MALFORMED",
            "has no system and query in common with this run",
            field="--against",
            remedy="give a file that --json wrote for the same collection and split",
        )
    return found


def headline(systems: Sequence[Measured], pairs: Sequence[Pair]) -> Pair | None:
    """The two systems whose queries a report shows one by one.

    The first pair asked for; else the best single leg and the best of the others.
    """
    if pairs:
        return pairs[0]
    legs = [each for each in systems if each.run.system.is_leg]
    others = [each for each in systems if not each.run.system.is_leg]
    if not legs or not others:
        return None
    return max(legs, key=Measured.mean).name, max(others, key=Measured.mean).name
