"""Several evaluations as one Markdown table: `python -m deploy.evaluation.summary FILE...`

FILEs are what `trireme eval --json` wrote, one per collection. Averages count collections alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from core.bootstrap import Difference, paired_bootstrap
from core.errors import BadEnvironment
from deploy.evaluation.evaluation import p_value
from deploy.evaluation.measures import MAIN
from deploy.evaluation.systems import LEGS

Report = Mapping[str, Any]
_MEASURES = (MAIN, "recall@100")


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """The reports in files; raises BadEnvironment naming a file that holds none."""
    reports: list[Report] = []
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _not_a_report(path) from error
        if not isinstance(report, dict) or not report.get("systems"):
            raise _not_a_report(path)
        reports.append(report)
    return reports


def common_systems(reports: Sequence[Report]) -> list[str]:
    """The systems that all reports have, in the order of the first."""
    return [name for name in reports[0]["systems"] if all(name in r["systems"] for r in reports)]


def as_markdown(reports: Sequence[Report]) -> str:
    """nDCG@10 and recall@100 of each system on each collection, and their averages."""
    names = [f"{report['dataset']} ({report['queries']})" for report in reports]
    lines = [_row(["system", *names, "mean"]), _row(["---"] * (len(names) + 2))]
    for system in common_systems(reports):
        cells = []
        for report in reports:
            values = report["systems"][system]
            cells.append(" / ".join(_short(values[measure]) for measure in _MEASURES))
        means = [np.mean([r["systems"][system][m] for r in reports]) for m in _MEASURES]
        lines.append(_row([system, *cells, " / ".join(_short(float(mean)) for mean in means)]))
    return "\n".join(lines) + "\n"


def gain_over_legs(reports: Sequence[Report]) -> list[tuple[str, str, Difference]]:
    """Each system that is no single leg against the leg that is best on the average."""
    systems = common_systems(reports)
    legs = [name for name in systems if name in LEGS]
    if not legs:
        return []
    best = max(legs, key=lambda leg: np.mean([r["systems"][leg][MAIN] for r in reports]))
    return [
        (best, name, paired_bootstrap(*(_pair(report, best, name) for report in reports)))
        for name in systems
        if name not in LEGS
    ]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(files: tuple[Path, ...]) -> None:
    """Print nDCG@10 / recall@100 per system and collection, and what fusion gains overall."""
    try:
        reports = read_reports(files)
    except BadEnvironment as error:
        raise click.ClickException(str(error)) from error
    click.echo(as_markdown(reports))
    for leg, system, gain in gain_over_legs(reports):
        click.echo(
            f"- {leg} to {system}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], "
            f"p {p_value(gain.two_sided_p)}"
        )


def _pair(report: Report, before: str, after: str) -> tuple[list[float], list[float]]:
    old, new = (report["systems"][name]["per_query"] for name in (before, after))
    return [old[query] for query in old], [new[query] for query in old]


def _not_a_report(path: Path) -> BadEnvironment:
    return BadEnvironment(
        "is not a report", field=str(path), remedy="give files that `trireme eval --json` wrote"
    )


def _short(value: float) -> str:
    """Three places without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
