"""The figures of an evaluation as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.bootstrap import Difference, paired_bootstrap
from deploy.training.measured import NEVER_TRAINED

_AVERAGE = "mean of " + ", ".join(NEVER_TRAINED)


@dataclass(frozen=True, eq=False)
class Figures:
    """nDCG@10 per query: of bm25, dense and hybrid by name, of blends by the reranker's share."""

    name: str
    legs: Mapping[str, Sequence[float]]
    blends: Mapping[float, Sequence[float]]

    def __repr__(self) -> str:
        return f"<Figures {self.name} {self.queries} queries>"

    @property
    def queries(self) -> int:
        """How many queries were measured."""
        return len(self.legs["hybrid"])

    def gain(self, blend: float) -> Difference:
        """Of reranking over hybrid alone."""
        return paired_bootstrap((self.legs["hybrid"], self.blends[blend]))


def as_json(figures: Sequence[Figures], blend: float) -> dict[str, Any]:
    """Means per collection, and the gain at `blend` with its interval."""
    report: dict[str, Any] = {"metric": "nDCG@10", "blend": blend, "collections": {}}
    for one in figures:
        means = {name: _mean(values) for name, values in one.legs.items()}
        blends = {str(weight): _mean(values) for weight, values in one.blends.items()}
        report["collections"][one.name] = {
            "queries": one.queries,
            **means,
            "blends": blends,
            "gain": one.gain(blend).as_dict(),
        }
    if average := _average(figures, blend):
        report["average"] = {"of": list(NEVER_TRAINED), "gain": average.as_dict()}
    return report


def as_markdown(figures: Sequence[Figures], blend: float) -> str:
    """One table: legs, blends, and the gain at `blend` over hybrid alone."""
    weights = list(figures[0].blends)
    heads = ["collection (queries)", *figures[0].legs, *(f"w = {weight:g}" for weight in weights)]
    heads.append(f"gain at {blend:g} [95 %] p")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for one in figures:
        cells = [_mean(values) for values in [*one.legs.values(), *one.blends.values()]]
        name = f"{one.name} ({one.queries})"
        lines.append(_row([name, *(f"{cell:.3f}" for cell in cells), _gain(one.gain(blend))]))
    if average := _average(figures, blend):
        blank = [""] * (len(heads) - 2)
        lines.append(_row([_AVERAGE, *blank, _gain(average)]))
    return "\n".join(lines) + "\n"


def _average(figures: Sequence[Figures], blend: float) -> Difference | None:
    unseen = [one for one in figures if one.name in NEVER_TRAINED]
    if len(unseen) < len(NEVER_TRAINED):
        return None
    return paired_bootstrap(*((one.legs["hybrid"], one.blends[blend]) for one in unseen))


def _gain(gain: Difference) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] {gain.p:.4f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
