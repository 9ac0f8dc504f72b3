"""`trireme models batching`: which batch size and queue delay suit a model on this machine."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from deploy.cli.client import console, errors, readable_errors
from deploy.cli.models import repository_option
from deploy.load.batching import Work, current_setting, sweep
from deploy.load.choice import Measured, Recommendation, Setting, recommend


class Numbers(click.ParamType[tuple[int, ...]]):
    """`1,8,32`: whole numbers, each from `least` on."""

    name = "N,N,..."

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(int(each) for each in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8,32", param, ctx)
        if min(numbers) < self.least:
            self.fail(f"each must be at least {self.least}", param, ctx)
        return numbers


@click.command("batching")
@click.argument("model")
@click.option("--batches", type=Numbers(1), default="8,64", show_default=True, help="Batch sizes.")
@click.option(
    "--delays",
    type=Numbers(0),
    default="0,500,2000",
    show_default=True,
    help="Microseconds to wait for a fuller batch.",
)
@click.option("--clients", type=Numbers(1), default="1,8", show_default=True)
@click.option("--rows", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--tokens", type=click.IntRange(2, 8192), default=16, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repository_option
@readable_errors
def batching(
    model: str,
    batches: tuple[int, ...],
    delays: tuple[int, ...],
    clients: tuple[int, ...],
    rows: int,
    tokens: int,
    seconds: float,
    as_json: bool,
    repository: Path,
) -> None:
    """Measure MODEL in a Triton of its own with several batch sizes and queue delays.

    The model's settings as they are come first; the repository is left as it is. Nothing else
    should be running.
    """
    current = current_setting(repository, model)
    tried = [Setting(batch, delay) for batch in batches for delay in delays]
    settings = list(dict.fromkeys([current, *tried]))
    work = Work(clients=clients, rows=rows, tokens=tokens, seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="trireme-batching-") as folder:
        measured = asyncio.run(
            sweep(repository, model, settings, work, state=Path(folder), on_measured=_say)
        )
    advice = recommend(measured, current)
    if as_json:
        click.echo(json.dumps(_as_dict(measured, advice), indent=2))
        return
    console.print(_table(measured, advice.setting))
    kept = "stay with" if advice.setting == current else "set"
    console.print(f"{kept} [bold]{advice.setting}[/]", highlight=False)
    console.print(f"because {advice.because}", highlight=False, markup=False)


def _say(measured: Measured) -> None:
    errors.print(
        f"[dim]·[/] {measured.setting}, {measured.clients} client(s): "
        f"{measured.per_second:.0f} texts/s",
        highlight=False,
    )


def _table(measured: list[Measured], best: Setting) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("batch", "delay µs", "clients", "texts/s", "p50 ms", "p99 ms", "texts per batch"):
        table.add_column(name, justify="right")
    for each in measured:
        table.add_row(
            str(each.setting.batch),
            str(each.setting.delay_us),
            str(each.clients),
            f"{each.per_second:.1f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            f"{each.batch:.2f}",
            style="bold" if each.setting == best else "",
        )
    return table


def _as_dict(measured: list[Measured], advice: Recommendation) -> dict[str, Any]:
    return {
        "measured": [asdict(each) for each in measured],
        "recommended": asdict(advice.setting),
        "because": advice.because,
    }
