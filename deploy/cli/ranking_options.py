"""The options that say how a search ranks, the same for every command that has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from trireme.v1 import ranking_pb2

FUSIONS = {
    "rrf": ranking_pb2.FUSION_METHOD_RRF,
    "min-max": ranking_pb2.FUSION_METHOD_MIN_MAX,
    "z-score": ranking_pb2.FUSION_METHOD_Z_SCORE,
    "distribution": ranking_pb2.FUSION_METHOD_DISTRIBUTION,
}
LEGS = ("dense", "lexical", "sparse")

Function = TypeVar("Function", bound=Callable[..., Any])


class LegWeight(click.ParamType[tuple[str, float]]):
    """`dense=0.7`: a leg and its weight."""

    name = "LEG=W"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        leg, _, weight = str(value).partition("=")
        if leg not in LEGS:
            self.fail(f"{leg!r} is not a leg; use {', '.join(LEGS)}", param, ctx)
        try:
            return leg, float(weight)
        except ValueError:
            self.fail(f"{weight!r} is not a number; write {leg}=0.7", param, ctx)


_OPTIONS = (
    click.option("--fusion", type=click.Choice(list(FUSIONS)), help="How legs become one list."),
    click.option("--k", type=float, help="Rank constant of RRF."),
    click.option(
        "--weight", "weights", type=LegWeight(), multiple=True, help="Weight of a leg; repeatable."
    ),
    click.option("--window", type=int, default=0, help="Candidates per leg."),
    click.option(
        "--rerank/--no-rerank", default=None, help="Whether the cross-encoder reads the head."
    ),
    click.option("--depth", type=int, default=0, help="Documents that it reads."),
    click.option("--rerank-weight", type=float, help="Its share of the final score, 0 to 1."),
)


def ranking_options(function: Function) -> Function:
    """Adds the options; the command gets `ranking`, a SearchDefaults that holds what was given.

    What was not given is as the collection or the gateway has it.
    """

    @wraps(function)
    def command(**arguments: Any) -> Any:
        names = ("fusion", "k", "weights", "window", "rerank", "depth", "rerank_weight")
        given = {name: arguments.pop(name) for name in names}
        return function(ranking=_ranking(**given), **arguments)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]


def _ranking(
    *,
    fusion: str | None,
    k: float | None,
    weights: tuple[tuple[str, float], ...],
    window: int,
    rerank: bool | None,
    depth: int,
    rerank_weight: float | None,
) -> ranking_pb2.SearchDefaults:
    ranking = ranking_pb2.SearchDefaults(
        fusion=ranking_pb2.Fusion(k=k),
        rerank=ranking_pb2.Rerank(enabled=rerank, depth=depth, weight=rerank_weight),
        window=window,
    )
    if fusion is not None:
        ranking.fusion.method = FUSIONS[fusion]
    for leg, weight in weights:
        setattr(ranking.fusion, f"{leg}_weight", weight)
    return ranking
