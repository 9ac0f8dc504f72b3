"""Options of `trireme load`: what is asked, and whether capacity is looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.cli.search_options import MODES
from deploy.load.capacity import Bounds
from deploy.load.run import Ramp
from deploy.load.scenario import Shape, mix, read_shapes

PRIORITIES = ("interactive", "batch", "backfill")

Function = TypeVar("Function", bound=Callable[..., Any])


class ModeShare(click.ParamType[tuple[str, float]]):
    """`lexical=0.2`: a mode and its weight in the mix."""

    name = "MODE=WEIGHT"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        mode, _, weight = str(value).partition("=")
        if mode not in MODES:
            self.fail(f"{mode!r} is not a mode; use {', '.join(MODES)}", param, ctx)
        try:
            share = float(weight)
        except ValueError:
            self.fail(f"{weight!r} is not a number; write {mode}=0.2", param, ctx)
        if not 0 < share < float("inf"):
            self.fail(f"the weight of {mode} must be above 0", param, ctx)
        return mode, share


_MIX = (
    click.option(
        "--scenario",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Shapes of searches with weights, YAML or JSON, instead of the options below.",
    ),
    click.option("--mode", type=click.Choice(list(MODES)), default="hybrid", show_default=True),
    click.option(
        "--mix",
        "shares",
        type=ModeShare(),
        multiple=True,
        help="A mode and its weight, instead of --mode; repeatable.",
    ),
    click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True),
    click.option("--rerank/--no-rerank", default=True, show_default=True),
    click.option("--depth", type=int, default=0, help="Documents that the cross-encoder reads."),
    click.option("--window", type=int, default=0, help="Candidates per leg."),
    click.option("--filter", "filter_", metavar="EXPR", default="", help="Only what matches."),
    click.option("--priority", type=click.Choice(PRIORITIES), help="Lane to ask for."),
)
_RAMP = (
    click.option(
        "--ramp", is_flag=True, help="Raise the rate from --rate until a bound is passed."
    ),
    click.option(
        "--p99-bound",
        type=click.FloatRange(min=0, min_open=True),
        default=500.0,
        show_default=True,
        metavar="MS",
        help="Bound of --ramp: the 99th percentile of latency.",
    ),
    click.option(
        "--failure-bound",
        type=click.FloatRange(0, 1),
        default=0.01,
        show_default=True,
        help="Bound of --ramp: share of queries that may fail.",
    ),
    click.option(
        "--growth",
        type=click.FloatRange(1.05, 10),
        default=1.5,
        show_default=True,
        help="Factor between the rates of --ramp.",
    ),
    click.option(
        "--max-rate",
        type=click.FloatRange(0.1, 100_000),
        default=10_000.0,
        show_default=True,
        help="Where --ramp ends at the latest.",
    ),
)


def mix_options(function: Function) -> Function:
    """Adds the options of the mix; the command gets `shapes`, the Shapes that they make."""

    @wraps(function)
    def command(
        *,
        scenario: Path | None,
        mode: str,
        shares: Sequence[tuple[str, float]],
        top: int,
        rerank: bool,
        depth: int,
        window: int,
        filter_: str,
        priority: str | None,
        **others: Any,
    ) -> Any:
        shape = Shape(
            name=mode,
            mode=mode,
            top=top,
            rerank=rerank,
            depth=depth,
            window=window,
            filter=filter_,
            priority=priority or "",
        )
        shapes = read_shapes(scenario) if scenario else mix(shape, shares)
        return function(shapes=shapes, **others)

    return _with(command, _MIX)  # type: ignore[no-any-return]


def ramp_options(function: Function) -> Function:
    """Adds the options of the search for capacity; the command gets `ramp`, None without."""

    @wraps(function)
    def command(
        *,
        ramp: bool,
        p99_bound: float,
        failure_bound: float,
        growth: float,
        max_rate: float,
        **others: Any,
    ) -> Any:
        wanted = Ramp(Bounds(p99_bound, failure_bound), growth, max_rate) if ramp else None
        return function(ramp=wanted, **others)

    return _with(command, _RAMP)  # type: ignore[no-any-return]


def _with(command: Any, options: Sequence[Callable[[Any], Any]]) -> Any:
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)
