"""Which setting to recommend, and whether the held-back queries bear it out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.bootstrap import Difference, paired_bootstrap
from core.errors import BadEnvironment
from deploy.evaluation.evaluation import SIGNIFICANT, Measured, p_value
from deploy.evaluation.latency import Cell, Latency, cell
from deploy.evaluation.measures import MAIN
from deploy.evaluation.systems import System
from deploy.evaluation.tuning import Tried

MIN_HELD_BACK = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting with its quality on the tuning queries and its latency."""

    tried: Tried
    latency: Latency

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "system": self.tried.system.name,
            "ndcg@10": round(self.tried.quality, 4),
            "p50_ms": round(self.latency.p50, 1),
            "p95_ms": round(self.latency.p95, 1),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to change the settings, and why; `gain` is over the held-back queries."""

    recommended: bool
    reason: str
    gain: Difference | None = None


def split(queries: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tuning and held-back queries: each by one bit of a hash of its id, so the same every time.

    Raises BadEnvironment if too few are held back to support anything.
    """
    halves: tuple[list[str], list[str]] = ([], [])
    for query in queries:
        halves[hashlib.sha256(query.encode()).digest()[0] & 1].append(query)
    check_held_back(halves[1])
    return halves


def check_held_back(queries: Sequence[str]) -> None:
    """Raises BadEnvironment if the queries are too few to support anything."""
    if len(queries) < MIN_HELD_BACK:
        raise BadEnvironment(
            f"holds back {len(queries)} queries, which could not support any recommendation",
            field="--split",
            remedy=f"judge more: at least {MIN_HELD_BACK} are held back",
        )


def pareto(tried: Sequence[Tried], latencies: Mapping[Cell, Latency]) -> list[Choice]:
    """The settings that none other beats in both quality and p95, by ascending latency."""
    best: dict[Cell, Tried] = {}
    for each in tried:
        place = cell(each.system)
        if place not in best or each.quality > best[place].quality:
            best[place] = each
    choices = [Choice(each, latencies[place]) for place, each in best.items()]
    choices.sort(key=lambda choice: (choice.latency.p95, -choice.tried.quality))
    front: list[Choice] = []
    for choice in choices:
        if not front or choice.tried.quality > front[-1].tried.quality:
            front.append(choice)
    return front


def choose(front: Sequence[Choice], budget_ms: float) -> Choice | None:
    """The best of the front within the budget, if any is."""
    within = [choice for choice in front if choice.latency.p95 <= budget_ms]
    return max(within, key=lambda choice: choice.tried.quality) if within else None


def judge(current: Measured, chosen: Measured, budget_ms: float) -> Verdict:
    """Compares real searches of the held-back queries with the current and the chosen settings.

    Only queries that both answered in full count.
    """
    before, after = _complete(current, chosen)
    if len(after) < MIN_HELD_BACK:
        said = f"only {len(after)} held-back queries were answered in full; try with less load"
        return Verdict(False, said)
    gain = paired_bootstrap((before, after))
    taken = chosen.milliseconds(95)
    figures = (
        f"{gain.mean:+.4f} nDCG@10 on {len(after)} held-back queries, 95 % interval "
        f"{gain.low:+.4f} to {gain.high:+.4f}, p {p_value(gain.two_sided_p)}"
    )
    if current.settings() == chosen.settings():
        return Verdict(False, "the current settings are the best that was found", gain)
    if gain.mean <= 0:
        return Verdict(False, f"what won on the tuning queries does not win here: {figures}", gain)
    if gain.two_sided_p >= SIGNIFICANT:
        return Verdict(False, f"the gain may be luck: {figures}", gain)
    if taken > budget_ms:
        return Verdict(False, f"over the budget with {taken:.0f} ms at p95: {figures}", gain)
    return Verdict(True, figures, gain)


def _complete(current: Measured, chosen: Measured) -> tuple[list[float], list[float]]:
    """nDCG@10 with both settings, of the queries whose answers with both are complete."""
    short = current.run.fell_short | chosen.run.fell_short
    full = [query not in short for query in current.run.rankings]
    before, after = (
        list(itertools.compress(each.per_query[MAIN], full)) for each in (current, chosen)
    )
    return before, after


def describe(system: System) -> str:
    """A setting in words."""
    weights = ", ".join(f"{leg} {weight:g}" for leg, weight in system.weights)
    constant = f" with k = {system.k:g}" if system.k is not None else ""
    if not system.rerank:
        reranking = "no reranking"
    else:
        reranking = f"{system.depth} documents reranked with a share of {system.blend:g}"
    return f"{system.method}{constant}, weights {weights}, window {system.window}, {reranking}"
