"""`trireme load`: queries at a fixed rate, whatever the answers do (open loop)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deploy.cli.access import chosen_access
from deploy.cli.client import (
    address_option,
    connected,
    console,
    errors,
    readable_errors,
    resolve,
)
from deploy.cli.load_options import mix_options, ramp_options
from deploy.load.arrivals import ARRIVALS
from deploy.load.crew import Crew
from deploy.load.page import as_html
from deploy.load.queries import read_queries, sample_queries
from deploy.load.run import Plan, Ramp, climb, measure
from deploy.load.scenario import Shape
from deploy.load.sender import Target

# Parts of a report that are tables of their own, or for programs only.
_TABLES = ("percentiles_ms", "shapes", "failures_ms", "stages", "generator")
_STEP = ("rate_per_second", "answered_per_second", "p50_ms", "p95_ms", "p99_ms", "degraded")


@click.command()
@click.argument("collection")
@click.option(
    "--queries",
    type=click.Path(path_type=Path, exists=True),
    help="One query per line, JSON lines, or a BEIR folder. Default: made of stored documents.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 10_000),
    default=10.0,
    show_default=True,
    help="Queries per second; with --ramp, those of the first step.",
)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True)
@click.option(
    "--warm-up",
    type=click.FloatRange(0, 600),
    default=2.0,
    show_default=True,
    help="Seconds at the same rate before those that count.",
)
@click.option("--arrivals", type=click.Choice(ARRIVALS), default=ARRIVALS[0], show_default=True)
@mix_options
@ramp_options
@click.option("--deadline", type=float, default=2.0, show_default=True, help="Seconds per query.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="That send; more if the report says that the generator was late.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Of each process.",
)
@click.option(
    "--real-time",
    is_flag=True,
    help="Send before anything else on this machine runs; takes root or CAP_SYS_NICE.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with curves.",
)
@address_option
@readable_errors
def load(
    collection: str,
    queries: Path | None,
    rate: float,
    seconds: float,
    warm_up: float,
    arrivals: str,
    shapes: tuple[Shape, ...],
    ramp: Ramp | None,
    deadline: float,
    processes: int,
    connections: int,
    real_time: bool,
    seed: int,
    as_json: bool,
    html_file: Path | None,
    address: str | None,
) -> None:
    """Send queries to COLLECTION at RATE per second and report latencies.

    A latency counts from the moment a query was due, not from when it was sent, so a slow server
    cannot hide by slowing its clients down.
    """
    target = Target(
        access=chosen_access(resolve(address)),
        collection=collection,
        shapes=shapes,
        queries=_queries(queries, collection, address),
        deadline=deadline,
        connections=connections,
    )
    plan = Plan(seconds, warm_up, seed, processes)
    with Crew(target, processes=processes, arrivals=arrivals, real_time=real_time) as crew:
        if ramp is None:
            report = measure(crew, plan, rate)
        else:
            report = climb(crew, plan, ramp, first=rate, on_step=_say_step)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    if html_file is not None:
        html_file.write_text(
            as_html(report, collection=collection, shapes=shapes), encoding="utf-8"
        )


def _queries(path: Path | None, collection: str, address: str | None) -> tuple[str, ...]:
    if path is not None:
        return read_queries(path)
    with connected(address) as channel:
        return sample_queries(channel, collection)


def _say_step(step: dict[str, Any]) -> None:
    failed = sum(step["failed"].values())
    errors.print(
        f"[dim]·[/] {step['rate_per_second']:g}/s: {step['answered_per_second']:g}/s answered, "
        f"p99 {step['p99_ms']} ms, {failed} failed",
        highlight=False,
    )


def _print(report: dict[str, Any]) -> None:
    for step in report.get("steps", [report]):
        if step["generator"]["was_late"]:
            errors.print(
                f"[yellow]the generator was late[/] at {step['rate_per_second']:g}/s (p99 "
                f"{step['generator']['late_p99_ms']} ms), and latencies are longer by that; give "
                "more --processes or a lower rate",
                highlight=False,
            )
    if "steps" in report:
        console.print(_steps(report["steps"]))
        console.print(f"capacity [bold]{report['capacity_per_second']:g}/s[/]", highlight=False)
        console.print(f"because {report['stopped_because']}", highlight=False, markup=False)
        return
    console.print(_figures(report))
    if len(report["shapes"]) > 1:
        console.print(_shapes(report["shapes"]))
    console.print(_stages(report["stages"]))


def _figures(report: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, value in report.items():
        if name not in _TABLES:
            table.add_row(name.replace("_", " "), _shown(value))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return "" if value is None else str(value)


def _shapes(shapes: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("search", "answered", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for name, times in shapes.items():
        table.add_row(name, *(_shown(value) for value in times.values()))
    return table


def _stages(stages: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("stage", "p50 ms", "p95 ms", "p99 ms", "begins at", "inside"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, times in stages.items():
        shown = ("p50_ms", "p95_ms", "p99_ms", "start_p50_ms", "inner_p50_ms")
        table.add_row(
            name, *("" if times[each] is None else f"{times[each]:.1f}" for each in shown)
        )
    return table


def _steps(steps: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in (*_STEP, "failed"):
        table.add_column(name.replace("_", " "), justify="right")
    for step in steps:
        table.add_row(*(str(step[name]) for name in _STEP), str(sum(step["failed"].values())))
    return table
