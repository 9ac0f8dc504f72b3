"""`trireme eval`: quality and latency of each system on a judged collection."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress
from rich.table import Table

from core.errors import BadEnvironment, InvalidInput
from deploy.cli.beir import Judged, load
from deploy.cli.chosen_models import ChosenModels, model_options
from deploy.cli.client import address_option, console, readable_errors
from deploy.cli.judged import Ready, command_line, judged_options, now, ready, report_options
from deploy.evaluation.evaluation import (
    Comparison,
    Evaluation,
    Pair,
    compare,
    compare_with,
    headline,
    measure,
    p_value,
)
from deploy.evaluation.report import as_html
from deploy.evaluation.runs import Run, run_all
from deploy.evaluation.systems import DEFAULT_SYSTEMS, System, parse_systems

_SHOWN_COMPARISONS = 12


@click.command("eval")
@judged_options
@click.option("--split", default="test", show_default=True, help="Name of the file in qrels/.")
@click.option(
    "--systems",
    default=DEFAULT_SYSTEMS,
    show_default=True,
    help="Ways of searching, or `all`: dense, lexical, sparse, dense+lexical, hybrid, rerank, "
    "rerank@20, default, rrf, min-max, z-score, distribution, rrf:k=20:lexical=.5:depth=10.",
)
@click.option(
    "--compare",
    "pairs",
    metavar="A,B",
    multiple=True,
    help="Compare these two systems; repeatable. Default: every pair.",
)
@click.option(
    "--k",
    "recall_at",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Documents among which recall looks.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An earlier --json file: what changed since.",
)
@report_options
@model_options
@address_option
@readable_errors
def evaluate(
    folder: Path,
    collection: str | None,
    max_queries: int | None,
    split: str,
    systems: str,
    pairs: tuple[str, ...],
    recall_at: int,
    against: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    encoder: str,
    sparse_encoder: str,
    dimensions: int,
    language: str,
    title_boost: int,
    address: str | None,
) -> None:
    """Measure search quality on FOLDER, a collection in BEIR layout.

    The corpus is indexed first unless it already is, for each choice of models once. Without a
    running cluster, one is started for the time of the command.
    """
    parse_systems(systems, legs=())
    compared = [_pair(text) for text in pairs]
    earlier = _read(against) if against is not None else None
    judged = load(folder, split, max_queries)
    models = ChosenModels(encoder, sparse_encoder, dimensions, language, title_boost)
    with ready(judged, models, collection=collection, address=address) as target:
        wanted = ",".join([systems, *itertools.chain(*compared)])
        runs = _run(target, judged, parse_systems(wanted, legs=target.legs), recall_at)
    measured = measure(runs, judged.judgements, recall_at)
    changes = compare_with(earlier, measured) if earlier is not None else []
    evaluation = Evaluation(
        dataset=judged.name,
        split=split,
        documents=target.documents,
        queries=judged.queries,
        systems=measured,
        comparisons=[*changes, *compare(measured, compared)],
        command=command_line(),
        date=now(),
    )
    _print(evaluation)
    if json_file is not None:
        json_file.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n")
    if html_file is not None:
        page = as_html(evaluation, headline(measured, compared))
        html_file.write_text(page, encoding="utf-8")


def _pair(text: str) -> Pair:
    before, comma, after = (part.strip() for part in text.partition(","))
    if not comma or before == after:
        raise InvalidInput(
            "MALFORMED", f"is {text!r}", field="--compare", remedy="name two systems: A,B"
        )
    parse_systems(text, legs=())
    return before, after


def _read(path: Path) -> Mapping[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadEnvironment(
            "is not JSON", field=str(path), remedy="give a file that --json wrote"
        ) from error
    return report if isinstance(report, dict) else {}


def _run(target: Ready, judged: Judged, systems: Sequence[System], recall_at: int) -> list[Run]:
    # Fewer than 100 would not do for average precision.
    page_size = max(100, recall_at)
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(f"{len(systems)} systems", total=len(judged.queries))
        return run_all(
            target.searcher, systems, judged.queries, page_size, lambda: bars.advance(task)
        )


def _print(evaluation: Evaluation) -> None:
    console.print(_table(evaluation))
    sure = [each for each in evaluation.comparisons if each.significant]
    sure.sort(key=lambda each: -abs(each.difference.mean))
    for each in sure[:_SHOWN_COMPARISONS]:
        console.print(_said(each), highlight=False)
    if evaluation.comparisons:
        total = len(evaluation.comparisons)
        console.print(f"[dim]{len(sure)} of {total} differences are significant (p < .05)[/]")


def _said(comparison: Comparison) -> str:
    change = comparison.difference
    return (
        f"{comparison.before} to {comparison.after}: {change.mean:+.4f} "
        f"[{change.low:+.4f}, {change.high:+.4f}], p {p_value(change.two_sided_p)}"
    ).replace("[", "\\[")


def _table(evaluation: Evaluation) -> Table:
    title = (
        f"{evaluation.dataset}: {len(evaluation.queries):,} queries of {evaluation.split}, "
        f"{evaluation.documents:,} documents"
    )
    table = Table(title=title, box=None, padding=(0, 1), header_style="dim", title_justify="left")
    table.add_column("system", overflow="fold")
    measures = list(evaluation.systems[0].per_query)
    for heading in (*measures, "p50 ms", "p95 ms", "degraded"):
        table.add_column(heading, justify="right", min_width=len(heading))
    for each in evaluation.systems:
        table.add_row(
            each.name,
            *(f"{each.mean(measure):.4f}" for measure in measures),
            f"{each.milliseconds(50):.1f}",
            f"{each.milliseconds(95):.1f}",
            str(each.run.degraded),
        )
    return table
