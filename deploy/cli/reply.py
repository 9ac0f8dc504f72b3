"""What an answer says beside its hits: settings, models, shards, times, shortfalls."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from deploy.cli.client import console, errors
from deploy.cli.ranking_options import FUSIONS, LEGS
from trireme.v1 import error_reason_pb2, filter_pb2, search_pb2

BAR_CHARACTERS = 30


def print_settings(reply: search_pb2.SearchResponse) -> None:
    """What was used: fusion, reranking, models, shards."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("fusion", _fusion(reply))
    table.add_row("rerank", _rerank(reply))
    table.add_row("models", _models(reply))
    if reply.HasField("filter_plan"):
        table.add_row("filter", _filter(reply.filter_plan))
    table.add_row("shards", _shards(reply))
    console.print(table)


def print_understood(reply: search_pb2.SearchResponse) -> None:
    """What a query with operators was taken for, if it was one."""
    if not reply.HasField("understood"):
        return
    query = reply.understood
    parts = [f"looking for: {query.text}"]
    parts += [f'must hold "{part}"' for part in query.required]
    parts += [f'must not hold "{part}"' for part in query.excluded]
    console.print(Text("; ".join(parts), style="dim"))


def print_timings(reply: search_pb2.SearchResponse) -> None:
    """A time line of the stages."""
    total = max(1, reply.total_microseconds)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("inside", justify="right")
    table.add_column("when")
    for timing in reply.timings:
        before = round(BAR_CHARACTERS * timing.start_microseconds / total)
        length = max(1, round(BAR_CHARACTERS * timing.microseconds / total))
        inner = f"{timing.inner_microseconds / 1000:.1f}" if timing.inner_microseconds else ""
        table.add_row(
            stage_name(timing.stage),
            f"{timing.microseconds / 1000:.1f}",
            inner,
            Text(" " * before + "━" * length, style="cyan"),
        )
    table.add_row("total", f"{reply.total_microseconds / 1000:.1f}", "", "", style="bold")
    console.print(table)


def print_shortfalls(reply: search_pb2.SearchResponse) -> None:
    """What makes the answer less than complete, if anything does."""
    for shortfall in reply.degraded:
        reason = error_reason_pb2.ErrorReason.Name(shortfall.reason)
        line = Text.assemble(
            ("degraded", "yellow"),
            f" at {stage_name(shortfall.stage)}: {shortfall.message} ",
            (f"({reason.removeprefix('ERROR_REASON_')})", "dim"),
        )
        errors.print(line)


def stage_name(stage: search_pb2.Stage.ValueType) -> str:
    """A stage as people read it."""
    return search_pb2.Stage.Name(stage).removeprefix("STAGE_").lower().replace("_", " ")


def _fusion(reply: search_pb2.SearchResponse) -> str:
    fusion = reply.fusion
    method = next(name for name, number in FUSIONS.items() if number == fusion.method)
    constant = f", k {fusion.k:g}" if method == "rrf" else ""
    weights = {"dense": fusion.dense_weight, "lexical": fusion.lexical_weight}
    if reply.HasField("sparse_encoder"):
        weights["sparse"] = fusion.sparse_weight
    shown = ", ".join(f"{leg} {weight:g}" for leg, weight in weights.items())
    window = f"windows of {reply.window} gave {reply.candidate_count} candidates"
    return f"{method}{constant}, weights {shown}; {window}"


def _rerank(reply: search_pb2.SearchResponse) -> str:
    if not reply.rerank.enabled:
        return "off"
    return f"{reply.rerank.depth} documents, weight {reply.rerank.weight:g}"


def _filter(plan: filter_pb2.FilterPlan) -> str:
    """The filter, and per leg how many documents match it and how these were searched."""
    legs = [(name, getattr(plan, name)) for name in LEGS if plan.HasField(name)]  # type: ignore[arg-type]
    return "; ".join([plan.expression, *(f"{name} {_leg_plan(leg)}" for name, leg in legs)])


def _leg_plan(leg: filter_pb2.LegPlan) -> str:
    names = [filter_pb2.FilterStrategy.Name(each) for each in leg.strategies]
    ways = " and ".join(
        name.removeprefix("FILTER_STRATEGY_").lower().replace("_", "-") for name in names
    )
    said = f"{leg.matching_count:,} of {leg.document_count:,} match, {ways}"
    return f"{said}, {leg.shortfall}" if leg.shortfall else said


def _models(reply: search_pb2.SearchResponse) -> str:
    used = [
        getattr(reply, name)
        for name in ("encoder", "sparse_encoder", "reranker")
        if reply.HasField(name)
    ]
    return ", ".join(f"{each.model} {each.version} ({each.fingerprint[:8]})" for each in used)


def _shards(reply: search_pb2.SearchResponse) -> str:
    return "; ".join(_said_by_shards(reply.shards)) + f"; coverage {reply.coverage:.0%}"


def _said_by_shards(shards: Iterable[search_pb2.ShardAnswer]) -> Iterable[str]:
    for shard in shards:
        if shard.complete:
            yield f"{shard.shard} at generation {shard.generation}, change {shard.sequence}"
        else:
            yield f"{shard.shard} incomplete"
