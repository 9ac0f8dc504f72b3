"""A load as an HTML page: one file with nothing outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deploy.evaluation import page
from deploy.load.plots import Line, latency_curve, percentile_curve, stage_timeline
from deploy.load.report import LATE_MS
from deploy.load.scenario import Shape

_KINDS = {"p50_ms": "low", "p95_ms": "middle-line", "p99_ms": "high"}
_COLOURS = ("best", "middle-line", "high", "low")
_FROM_DUE = "Latencies count from when a query was due, so waiting for a slow answer is in them."


def as_html(report: Mapping[str, Any], *, collection: str, shapes: Sequence[Shape]) -> str:
    """The page of a report of run.measure or run.climb."""
    steps: Sequence[Mapping[str, Any]] = report.get("steps", [report])
    chosen = _chosen(report, steps)
    parts = [
        page.facts(_facts(chosen, collection, shapes)),
        _verdict(report) if "steps" in report else "",
        _late(steps),
        _curves(report, steps) if len(steps) > 1 else "",
        _percentiles(steps, chosen),
        _stages(chosen),
        _mix(chosen) if len(chosen["shapes"]) > 1 else "",
        _shortfalls(chosen),
        page.section("Every rate", _table(steps, chosen)) if len(steps) > 1 else "",
    ]
    return page.page(f"Load on {collection}", [part for part in parts if part])


def _chosen(report: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The step that the page tells most of: that of capacity, the lowest if there is none."""
    within = [s for s in steps if s["rate_per_second"] <= report.get("capacity_per_second", 0)]
    return within[-1] if within else steps[0]


def _facts(
    chosen: Mapping[str, Any], collection: str, shapes: Sequence[Shape]
) -> Mapping[str, str]:
    return {
        "collection": collection,
        "searches": "; ".join(_described(shape) for shape in shapes),
        "rate": f"{chosen['rate_per_second']:g}/s for {chosen['seconds']:g} s, open loop",
        "sent by": f"{chosen['generator']['processes']} process(es)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _described(shape: Shape) -> str:
    reranked = {True: "reranked", False: "not reranked", None: "reranked as by default"}
    parts = [f"{shape.mode}, top {shape.top}", reranked[shape.rerank]]
    parts += [f"depth {shape.depth}"] * bool(shape.depth)
    parts += [f"window {shape.window}"] * bool(shape.window)
    parts += [f"filter {shape.filter}"] * bool(shape.filter)
    parts += [f"priority {shape.priority}"] * bool(shape.priority)
    return f"{shape.name} ({', '.join(parts)}, weight {shape.weight:g})"


def _verdict(report: Mapping[str, Any]) -> str:
    lines = page.facts(
        {
            "capacity": f"{report['capacity_per_second']:g} queries/s",
            "because": report["stopped_because"],
        }
    )
    return f'<div class="verdict">{lines}</div>'


def _late(steps: Sequence[Mapping[str, Any]]) -> str:
    late = [f"{s['rate_per_second']:g}/s" for s in steps if s["generator"]["was_late"]]
    if not late:
        return ""
    note = (
        f"At {', '.join(late)} queries were sent more than {LATE_MS:g} ms late, or a process that "
        "sends had no time left: latencies there are the generator's too. Give more --processes, "
        "or other machines."
    )
    return page.section("The generator was late", note=note)


def _curves(report: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        Line(
            name.removesuffix("_ms"),
            kind,
            [(s["answered_per_second"], s[name]) for s in steps if s[name] is not None],
        )
        for name, kind in _KINDS.items()
    ]
    lines = [each for each in lines if each.points]
    if not lines:
        return ""
    drawn = latency_curve(
        lines, bound_ms=report["bounds"]["p99_ms"], capacity=report["capacity_per_second"]
    )
    return page.section("Latency and throughput", page.figure(drawn, _FROM_DUE))


def _percentiles(steps: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    """Of the chosen rate, and of the lowest and the highest beside it."""
    picked = {f"{s['rate_per_second']:.3g}/s": s for s in (steps[0], chosen, steps[-1])}
    lines = [
        Line(name, kind, [(float(share), ms) for share, ms in step["percentiles_ms"].items()])
        for kind, (name, step) in zip(_COLOURS, picked.items(), strict=False)
        if len(step["percentiles_ms"]) > 1
    ]
    if not lines:
        return ""
    return page.section("Percentiles", page.figure(percentile_curve(lines), _FROM_DUE))


def _stages(chosen: Mapping[str, Any]) -> str:
    stages = chosen["stages"]
    if not stages:
        return ""
    caption = (
        f"At {chosen['rate_per_second']:g}/s, inside the gateway: dark is the median, light goes "
        "on to the 95th percentile; each begins at its median."
    )
    heads = ["stage", "replies", "p50 ms", "p95 ms", "p99 ms", "inside, p50 ms"]
    names = ("p50_ms", "p95_ms", "p99_ms", "inner_p50_ms")
    rows = [
        [stage, f"{times['count']:,}", *(_number(times[name]) for name in names)]
        for stage, times in stages.items()
    ]
    note = "Inside: the part of a stage that Triton or the slowest shard took."
    drawn = page.figure(stage_timeline(stages), caption)
    return page.section("Stages", drawn, page.table(heads, rows), note=note)


def _mix(chosen: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{times['count']:,}", *(_number(times[p]) for p in ("p50_ms", "p95_ms", "p99_ms"))]
        for name, times in chosen["shapes"].items()
    ]
    heads = ["search", "answered", "p50 ms", "p95 ms", "p99 ms"]
    return page.section("Mix", page.table(heads, rows))


def _shortfalls(chosen: Mapping[str, Any]) -> str:
    rows = [["degraded", name, f"{count:,}", ""] for name, count in chosen["degradations"].items()]
    rows += [
        ["failed", name, f"{times['count']:,}", _number(times["p99_ms"])]
        for name, times in chosen["failures_ms"].items()
    ]
    if not rows:
        return page.section("Shortfalls", note="Every query was answered in full.")
    heads = ["what", "where and why", "times", "p99 ms until told"]
    return page.section("Shortfalls", page.table(heads, rows, text_columns=frozenset({1})))


def _table(steps: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    heads = ["rate/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "degraded", "failed"]
    names = ("answered_per_second", "p50_ms", "p95_ms", "p99_ms", "p999_ms")
    rows = [
        [
            f"{step['rate_per_second']:.1f}",
            *(_number(step[name]) for name in names),
            f"{step['degraded']:,}",
            f"{sum(step['failed'].values()):,}",
        ]
        for step in steps
    ]
    return page.table(heads, rows, kinds=["best" if step is chosen else "" for step in steps])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
