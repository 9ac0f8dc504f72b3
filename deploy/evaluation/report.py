"""An evaluation as an HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from core.bootstrap import paired_bootstrap
from deploy.evaluation import charts, page
from deploy.evaluation.charts import Point
from deploy.evaluation.evaluation import Comparison, Evaluation, Measured, Pair, p_value
from deploy.evaluation.measures import MAIN

_SHOWN_QUERIES = 8
_HYBRID = "hybrid"


def as_html(evaluation: Evaluation, pair: Pair | None) -> str:
    """The whole report; `pair` is compared query by query."""
    best = max(evaluation.systems, key=Measured.mean).name
    parts = [
        _facts(evaluation),
        page.section("Quality and latency", _table(evaluation, best), _bars(evaluation, best)),
        _latency(evaluation, best),
        _depths(evaluation.systems),
        _comparisons(evaluation.comparisons),
        _queries(evaluation, pair) if pair else "",
        _settings(evaluation.systems),
    ]
    title = f"Search quality on {evaluation.dataset}, {evaluation.split}"
    return page.page(title, [part for part in parts if part])


def _facts(evaluation: Evaluation) -> str:
    values = {
        "documents": f"{evaluation.documents:,}",
        "judged queries": f"{len(evaluation.queries):,}",
        **{role.replace("_", " "): model for role, model in evaluation.models().items()},
        "date": evaluation.date,
        "command": evaluation.command,
    }
    return page.facts(values)


def _table(evaluation: Evaluation, best: str) -> str:
    measures = list(evaluation.systems[0].per_query)
    heads = ["system", *measures, "95 % of nDCG@10", "p50 ms", "p95 ms", "degraded"]
    rows, kinds = [], []
    for each in evaluation.systems:
        low, high = each.interval()
        rows.append(
            [
                each.name,
                *(f"{each.mean(measure):.4f}" for measure in measures),
                f"{low:.3f} to {high:.3f}",
                f"{each.milliseconds(50):.1f}",
                f"{each.milliseconds(95):.1f}",
                str(each.run.degraded),
            ]
        )
        kinds.append("best" if each.name == best else "")
    return page.table(heads, rows, kinds=kinds)


def _bars(evaluation: Evaluation, best: str) -> str:
    points = [Point(each.name, each.mean(), *each.interval()) for each in evaluation.systems]
    return page.figure(
        charts.bars(points, axis="mean nDCG@10", best=best),
        "Mean nDCG@10; whiskers: 95 % interval over resampled queries. Whiskers that overlap do "
        "not mean that two systems are alike: the comparisons below look at the same queries.",
    )


def _latency(evaluation: Evaluation, best: str) -> str:
    points = [Point(each.name, each.mean(), x=each.milliseconds(50)) for each in evaluation.systems]
    plot = charts.scatter(points, x_axis="p50 ms", y_axis="nDCG@10", marked=[best])
    note = (
        "Milliseconds at the client for a whole page, one query at a time. The systems take turns "
        "query by query, and no query embedding is remembered from another."
    )
    return page.section(
        "Quality against latency", page.figure(plot, "Up and left is better."), note=note
    )


def _depths(systems: Sequence[Measured]) -> str:
    """What rerank@DEPTH adds to hybrid, by depth; empty without hybrid and two depths."""
    base = next((each for each in systems if each.name == _HYBRID), None)
    deep = [each for each in systems if each.name.startswith("rerank@")]
    if base is None or len(deep) < 2:
        return ""
    points = [Point("", 0.0, 0.0, 0.0)]
    for each in sorted(deep, key=lambda one: one.run.system.depth):
        gain = paired_bootstrap((base.per_query[MAIN], each.per_query[MAIN]))
        points.append(Point("", gain.mean, gain.low, gain.high, x=each.run.system.depth))
    plot = charts.curve(points, x_axis="documents reranked", y_axis="change of nDCG@10")
    caption = "Change against hybrid, over the same queries; band: 95 % interval."
    return page.section("Quality against rerank depth", page.figure(plot, caption))


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    ordered = sorted(comparisons, key=lambda each: -abs(each.difference.mean))
    sure = [each for each in ordered if each.significant]
    unsure = [each for each in ordered if not each.significant]
    shown = _compared(sure) if sure else "<p>No difference is significant.</p>"
    folded = page.folded(f"{len(unsure)} more without a significant difference", _compared(unsure))
    note = (
        "Paired bootstrap over queries, two-sided; significant below .05. With many pairs some "
        "look significant by luck: of twenty pairs without any difference, one does."
    )
    return page.section("Comparisons", shown, folded if unsure else "", note=note)


def _compared(comparisons: Sequence[Comparison]) -> str:
    rows = [
        [
            each.before,
            each.after,
            f"{each.difference.mean:+.4f}",
            f"{each.difference.low:+.4f} to {each.difference.high:+.4f}",
            p_value(each.difference.two_sided_p).removeprefix("= "),
        ]
        for each in comparisons
    ]
    heads = ["from", "to", "change of nDCG@10", "95 % interval", "p"]
    return page.table(heads, rows, text_columns=frozenset({1}))


def _queries(evaluation: Evaluation, pair: Pair) -> str:
    before, after = (evaluation.system(name).per_query[MAIN] for name in pair)
    ids = list(evaluation.queries)
    changes = sorted(
        ((new - old, id, old, new) for id, old, new in zip(ids, before, after, strict=True)),
        key=lambda change: -change[0],
    )
    won = sum(change[0] > 0 for change in changes)
    lost = sum(change[0] < 0 for change in changes)
    plot = charts.steps([change[0] for change in changes], axis="change of nDCG@10 per query")
    worst = [change for change in reversed(changes) if change[0] < 0][:_SHOWN_QUERIES]
    shown = [change for change in changes if change[0] > 0][:_SHOWN_QUERIES] + worst[::-1]
    rows = [
        [id, evaluation.queries[id], f"{old:.3f}", f"{new:.3f}", f"{change:+.3f}"]
        for change, id, old, new in shown
    ]
    heads = ["query", "text", pair[0], pair[1], "change"]
    caption = f"{won} won, {lost} lost, {len(changes) - won - lost} the same."
    return page.section(
        f"Query by query: {pair[0]} to {pair[1]}",
        page.figure(plot, caption),
        page.table(heads, rows, text_columns=frozenset({1})),
        note="The greatest gains and the greatest losses.",
    )


def _settings(systems: Sequence[Measured]) -> str:
    rows = [[each.name, json.dumps(each.settings())] for each in systems]
    shown = page.table(["system", "as used"], rows, text_columns=frozenset({1}))
    return page.section("Settings", shown, note="As the gateway's answers echo them.")
