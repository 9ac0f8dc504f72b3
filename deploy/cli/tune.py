"""`trireme tune`: the settings that suit a judged collection, within a latency budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from google.protobuf import field_mask_pb2
from rich.progress import Progress
from rich.table import Table

from core.errors import TritonUnavailable
from deploy.cli.beir import Judged, load
from deploy.cli.chosen_models import ChosenModels, model_options
from deploy.cli.client import address_option, console, readable_errors
from deploy.cli.judged import Ready, command_line, judged_options, now, ready, report_options
from deploy.evaluation.candidates import Candidates, fetch
from deploy.evaluation.evaluation import measure
from deploy.evaluation.latency import Cell, Latency, measure_cells
from deploy.evaluation.runs import run_all
from deploy.evaluation.space import Space
from deploy.evaluation.systems import System, parse
from deploy.evaluation.tuning import SHOWN, try_all
from deploy.evaluation.tuning_report import Tuning, as_html
from deploy.evaluation.verdict import check_held_back, choose, pareto, split
from trireme.v1 import collection_pb2, collection_pb2_grpc

LATENCY_QUERIES = 40
CALL_SECONDS = 30.0
# What the choice must beat, with and without reranking.
CURRENT = {True: "default", False: "hybrid"}


@dataclass(frozen=True, slots=True)
class _Halves:
    """Judged queries to tune on, and others to test the choice with."""

    tuning: Judged
    held_back: Judged


@click.command("tune")
@judged_options
@click.option("--split", "split_name", default="train", show_default=True, help="To tune on.")
@click.option(
    "--held-back-split",
    help="Test the choice on this split. Default: on a half of --split that is not tuned on.",
)
@click.option(
    "--budget-ms",
    type=click.FloatRange(1),
    default=300.0,
    show_default=True,
    help="The 95th percentile of a page's latency must stay below.",
)
@click.option("--coarse", is_flag=True, help="Try about a hundred settings instead of thousands.")
@click.option(
    "--rerank/--no-rerank",
    default=True,
    show_default=True,
    help="Without, only fusion is tuned, in far less time; reranking stays as it is.",
)
@click.option("--apply", is_flag=True, help="Make what is recommended the collection's default.")
@report_options
@model_options
@address_option
@readable_errors
def tune(
    folder: Path,
    collection: str | None,
    max_queries: int | None,
    split_name: str,
    held_back_split: str | None,
    budget_ms: float,
    coarse: bool,
    rerank: bool,
    apply: bool,
    json_file: Path | None,
    html_file: Path | None,
    encoder: str,
    sparse_encoder: str,
    dimensions: int,
    language: str,
    title_boost: int,
    address: str | None,
) -> None:
    """Search for better ranking settings on FOLDER, a collection in BEIR layout.

    Thousands of settings are tried on some of the judged queries. The best within the budget is
    recommended only if real searches of other queries show a significant gain over what the
    collection does now.
    """
    halves = _halves(folder, split_name, held_back_split, max_queries)
    models = ChosenModels(encoder, sparse_encoder, dimensions, language, title_boost)
    with ready(halves.tuning, models, collection=collection, address=address) as target:
        space = Space.coarse() if coarse else Space()
        tuning = _tune(target, halves, space if rerank else space.without_reranking(), budget_ms)
        _print(tuning)
        if apply and tuning.verdict.recommended and tuning.chosen is not None:
            _apply(target, tuning.chosen.tried.system, rerank=rerank)
    if json_file is not None:
        json_file.write_text(json.dumps(tuning.as_dict(), indent=2) + "\n")
    if html_file is not None:
        html_file.write_text(as_html(tuning), encoding="utf-8")


def _halves(
    folder: Path, name: str, held_back_name: str | None, max_queries: int | None
) -> _Halves:
    judged = load(folder, name, max_queries)
    if held_back_name is None:
        tuning, held_back = split(list(judged.queries))
        return _Halves(judged.only(tuning), judged.only(held_back))
    other = load(folder, held_back_name, None)
    fresh = [query for query in other.queries if query not in judged.queries]
    check_held_back(fresh)
    return _Halves(judged, other.only(fresh))


def _tune(target: Ready, halves: _Halves, space: Space, budget_ms: float) -> Tuning:
    queries = halves.tuning.queries
    with Progress(console=console, transient=True) as bars:
        candidates = _fetch(target, queries, space, bars)
        latencies = _latencies(target, queries, space, bars)
        fusions = len(list(space.fusions(target.legs)))
        task = bars.add_task("try settings", total=fusions)
        tried = try_all(
            space,
            candidates,
            halves.tuning.only(candidates).judgements,
            target.legs,
            lambda: bars.advance(task),
        )
        front = pareto(tried, latencies)
        chosen = choose(front, budget_ms)
        systems = [parse(CURRENT[bool(space.depths)])] + ([chosen.tried.system] if chosen else [])
        task = bars.add_task("test the choice", total=len(halves.held_back.queries))
        runs = run_all(
            target.searcher, systems, halves.held_back.queries, SHOWN, lambda: bars.advance(task)
        )
    return Tuning(
        dataset=halves.tuning.name,
        collection=target.searcher.collection,
        tuning_queries=len(candidates),
        left_out=len(queries) - len(candidates),
        tried=tried,
        front=front,
        chosen=chosen,
        held_back=measure(runs, halves.held_back.judgements, SHOWN),
        budget_ms=budget_ms,
        command=command_line(),
        date=now(),
    )


def _fetch(
    target: Ready, queries: Mapping[str, str], space: Space, bars: Progress
) -> dict[str, Candidates]:
    task = bars.add_task("fetch candidates", total=len(queries))
    found = {}
    for query, text in queries.items():
        candidates = fetch(
            target.searcher,
            text,
            legs=target.legs,
            window=max(space.windows),
            depth=space.deepest,
        )
        if candidates is not None:
            found[query] = candidates
        bars.advance(task)
    if not found:
        raise TritonUnavailable(
            "no query could be answered in full", remedy="look at `trireme status`, try again"
        )
    return found


def _latencies(
    target: Ready, queries: Mapping[str, str], space: Space, bars: Progress
) -> Mapping[Cell, Latency]:
    texts = list(queries.values())[:LATENCY_QUERIES]
    task = bars.add_task("measure latency", total=len(texts))
    return measure_cells(target.searcher, space, texts, SHOWN, lambda: bars.advance(task))


def _apply(target: Ready, system: System, *, rerank: bool) -> None:
    """Sets fusion and window, and reranking if that was tuned too."""
    parts = ("fusion", "window", "rerank") if rerank else ("fusion", "window")
    wanted = collection_pb2.Collection(
        name=target.searcher.collection, search_defaults=system.defaults()
    )
    mask = field_mask_pb2.FieldMask(paths=[f"search_defaults.{part}" for part in parts])
    stub = collection_pb2_grpc.CollectionServiceStub(target.channel)
    stub.UpdateCollection(
        collection_pb2.UpdateCollectionRequest(collection=wanted, update_mask=mask),
        timeout=CALL_SECONDS,
    )
    console.print(f"applied to [bold]{target.searcher.collection}[/]")


def _print(tuning: Tuning) -> None:
    title = (
        f"{tuning.dataset}: {len(tuning.tried):,} settings on {tuning.tuning_queries:,} queries; "
        "those that none beats in both quality and latency:"
    )
    table = Table(title=title, box=None, padding=(0, 1), header_style="dim", title_justify="left")
    table.add_column("setting", overflow="fold")
    for heading in ("ndcg@10", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="right", min_width=len(heading))
    for choice in tuning.front:
        table.add_row(
            choice.tried.system.name,
            f"{choice.tried.quality:.4f}",
            f"{choice.latency.p50:.1f}",
            f"{choice.latency.p95:.1f}",
            style="bold" if choice == tuning.chosen else "",
        )
    console.print(table)
    for line in tuning.summary():
        console.print(line, highlight=False, markup=False)
