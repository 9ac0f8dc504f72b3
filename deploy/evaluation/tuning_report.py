"""What tuning found: in words, as JSON, and as an HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from deploy.evaluation import charts, page
from deploy.evaluation.charts import Point
from deploy.evaluation.evaluation import Measured
from deploy.evaluation.systems import System
from deploy.evaluation.tuning import Tried
from deploy.evaluation.verdict import Choice, Verdict, describe, judge

_KNOBS: dict[str, Callable[[System], str]] = {
    "method": lambda system: system.method,
    "k of rrf": lambda system: "" if system.k is None else f"{system.k:g}",
    "weights": lambda system: ", ".join(f"{leg} {weight:g}" for leg, weight in system.weights),
    "window": lambda system: str(system.window),
    "documents reranked": lambda system: str(system.depth if system.rerank else 0),
    "share of the reranker": lambda system: f"{system.blend:g}" if system.blend else "0",
}


@dataclass(frozen=True, eq=False)
class Tuning:
    """The settings tried, the front of the best, the choice, and how it fared.

    `left_out` counts the tuning queries that could not be answered in full, so that settings were
    not tried on them. `held_back` are real searches: the current settings, and the chosen ones if
    there are any.
    """

    dataset: str
    collection: str
    tuning_queries: int
    left_out: int
    tried: Sequence[Tried]
    front: Sequence[Choice]
    chosen: Choice | None
    held_back: Sequence[Measured]
    budget_ms: float
    command: str
    date: str

    @cached_property
    def verdict(self) -> Verdict:
        """Whether to change the settings."""
        if self.chosen is None:
            reason = f"nothing answers within {self.budget_ms:g} ms at p95"
            return Verdict(False, reason)
        current, chosen = self.held_back
        return judge(current, chosen, self.budget_ms)

    def summary(self) -> list[str]:
        """The verdict in a few lines."""
        lines = []
        if self.verdict.recommended and self.chosen is not None:
            lines.append(f"recommended: {self.chosen.tried.system.name}")
            lines.append(f"  {describe(self.chosen.tried.system)}")
            lines.append(f"  {self.verdict.reason}")
        else:
            lines.append(f"keep what you have: {self.verdict.reason}")
        taken = self.held_back[0].milliseconds(95)
        if taken > self.budget_ms:
            lines.append(
                f"the current settings take {taken:.0f} ms at p95, over the budget of "
                f"{self.budget_ms:g} ms; the table shows what keeps to it"
            )
        if self.left_out:
            lines.append(f"tuning queries left out, not being answered in full: {self.left_out}")
        if degraded := sum(each.run.degraded for each in self.held_back):
            lines.append(
                f"answers to held-back queries that fell short: {degraded}; their queries do not "
                "count in the comparison"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        gain = self.verdict.gain
        return {
            "dataset": self.dataset,
            "collection": self.collection,
            "date": self.date,
            "command": self.command,
            "budget_ms": self.budget_ms,
            "tuning_queries": self.tuning_queries,
            "left_out": self.left_out,
            "settings_tried": len(self.tried),
            "front": [choice.as_dict() for choice in self.front],
            "chosen": self.chosen.as_dict() if self.chosen else None,
            "held_back": {each.name: each.as_dict() for each in self.held_back},
            "gain": gain.as_dict() if gain else None,
            "recommended": self.verdict.recommended,
            "reason": self.verdict.reason,
        }


def as_html(tuning: Tuning) -> str:
    """The whole report."""
    said = "".join(f"<p>{escape(line)}</p>" for line in tuning.summary())
    parts = [
        page.facts(
            {
                "collection": tuning.collection,
                "settings tried": f"{len(tuning.tried):,}",
                "tuning queries": f"{tuning.tuning_queries:,}",
                "held-back queries": f"{len(tuning.held_back[0].run.rankings):,}",
                "budget": f"{tuning.budget_ms:g} ms at p95",
                "date": tuning.date,
                "command": tuning.command,
            }
        ),
        f'<div class="verdict">{said}</div>',
        _front(tuning),
        _held_back(tuning.held_back),
        _knobs(tuning.tried),
    ]
    return page.page(f"Tuning on {tuning.dataset}", parts)


def _front(tuning: Tuning) -> str:
    front = tuning.front
    points = [
        Point(str(number), each.tried.quality, x=each.latency.p95)
        for number, each in enumerate(front, start=1)
    ]
    marked = [str(front.index(tuning.chosen) + 1)] if tuning.chosen else []
    plot = charts.scatter(points, x_axis="p95 ms", y_axis="nDCG@10", marked=marked)
    rows = [
        [
            str(number),
            each.tried.system.name,
            f"{each.tried.quality:.4f}",
            f"{each.latency.p50:.1f}",
            f"{each.latency.p95:.1f}",
        ]
        for number, each in enumerate(front, start=1)
    ]
    kinds = ["best" if row[0] in marked else "" for row in rows]
    heads = ["", "setting", "nDCG@10", "p50 ms", "p95 ms"]
    return page.section(
        "Quality against latency",
        page.figure(plot, "Settings that none other beats in both. Up and left is better."),
        page.table(heads, rows, kinds=kinds, text_columns=frozenset({1})),
        note="The best of many flatters itself: on new queries expect less than this.",
    )


def _held_back(systems: Sequence[Measured]) -> str:
    rows = []
    for each in systems:
        low, high = each.interval()
        rows.append(
            [
                each.name,
                f"{each.mean():.4f}",
                f"{low:.3f} to {high:.3f}",
                f"{each.milliseconds(50):.1f}",
                f"{each.milliseconds(95):.1f}",
            ]
        )
    heads = ["setting", "nDCG@10", "95 %", "p50 ms", "p95 ms"]
    note = "Real searches of queries that had no part in the choice."
    return page.section("Held-back queries", page.table(heads, rows), note=note)


def _knobs(tried: Sequence[Tried]) -> str:
    tables = []
    for knob, value_of in _KNOBS.items():
        best: dict[str, Tried] = {}
        for each in tried:
            value = value_of(each.system)
            if value and (value not in best or each.quality > best[value].quality):
                best[value] = each
        rows = [[value, f"{each.quality:.4f}", each.system.name] for value, each in best.items()]
        heads = [knob, "best nDCG@10", "with"]
        tables.append(page.table(heads, rows, text_columns=frozenset({2})))
    note = "The best that each value of each setting reaches, over the tuning queries."
    return page.section("What each setting is worth", *tables, note=note)
