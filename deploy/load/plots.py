"""Plots of a load: latency against throughput, percentiles, and when the stages happen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.evaluation.drawing import (
    BOTTOM,
    LEFT,
    PLOT_HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    axes,
    grid_x,
    line,
    svg,
    text,
)

_LEGEND = 60
_ROW = 30
_NAMES = 120
# What a small percentile may take of a logarithmic axis.
_LEAST_MS = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points (x, y); `kind` is its class in the style sheet."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


def latency_curve(lines: Sequence[Line], *, bound_ms: float | None, capacity: float) -> str:
    """Latency in ms, logarithmic, against answered queries per second; bound and capacity drawn."""
    points = [point for each in lines for point in each.points]
    high = max([y for _, y in points] + ([bound_ms] if bound_ms else []))
    x = Scale(0.0, max(*(x for x, _ in points), capacity) * 1.05, LEFT, WIDTH - RIGHT - _LEGEND)
    y = _logarithmic(min(y for _, y in points), high)
    drawn = axes(x, y, "answered queries per second", "latency, ms", x.ticks())
    right = WIDTH - RIGHT
    if bound_ms:
        drawn.append(line(LEFT, y(bound_ms), right, y(bound_ms), "bound"))
        drawn.append(text(LEFT + 6, y(bound_ms) - 5, "bound of p99", "tick"))
    if capacity:
        drawn.append(line(x(capacity), TOP, x(capacity), PLOT_HEIGHT - BOTTOM, "bound"))
        drawn.append(text(x(capacity) - 5, TOP + 10, "capacity", "tick end"))
    for each in lines:
        drawn += _drawn(each, x, y)
    return svg(PLOT_HEIGHT, drawn, "latency against throughput")


def percentile_curve(lines: Sequence[Line]) -> str:
    """Latency in ms over percentiles, spread so that each further nine takes as much room."""
    points = [point for each in lines for point in each.points]
    last = max(share for share, _ in points)
    x = Scale(1.0, 100 / (100 - last), LEFT, WIDTH - RIGHT - _LEGEND, log=True)
    y = _logarithmic(min(y for _, y in points), max(y for _, y in points))
    shown = [share for share in (0, 50, 90, 99, 99.9, 99.99, 99.999) if share <= last]
    drawn = axes(x, y, "per cent of the queries", "latency, ms", [])
    for share in shown:
        place = x(100 / (100 - share))
        drawn.append(line(place, TOP, place, PLOT_HEIGHT - BOTTOM, "grid"))
        drawn.append(text(place, PLOT_HEIGHT - BOTTOM + 17, f"{share:g}", "tick middle"))
    spread = [
        Line(each.name, each.kind, [(100 / (100 - share), ms) for share, ms in each.points])
        for each in lines
    ]
    for each in spread:
        drawn += _drawn(each, x, y)
    return svg(PLOT_HEIGHT, drawn, "latency by percentile")


def stage_timeline(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a stage: from its median start for its median time, and on to its p95."""
    end = max(times["start_p50_ms"] + times["p95_ms"] for times in stages.values())
    height = _ROW * len(stages) + BOTTOM
    x = Scale(0.0, max(end, _LEAST_MS) * 1.1, _NAMES, WIDTH - RIGHT)
    drawn = [grid_x(x, 4, height - BOTTOM + 8)]
    for row, (name, times) in enumerate(stages.items()):
        drawn += _stage(name, times, x, _ROW * row + 4 + _ROW / 2)
    drawn.append(text((_NAMES + WIDTH) / 2, height - 6, "ms since arrival", "axis middle"))
    return svg(height, drawn, "stages over time")


def _stage(name: str, times: Mapping[str, Any], x: Scale, middle: float) -> list[str]:
    start, p50, p95 = times["start_p50_ms"], times["p50_ms"], times["p95_ms"]
    return [
        text(_NAMES - 10, middle + 4, name, "label end"),
        f'<rect class="bar" x="{x(start):.1f}" y="{middle - 5:.1f}" height="10" rx="2" '
        f'width="{max(1.0, x(start + p95) - x(start)):.1f}" opacity=".45"/>',
        f'<rect class="bar best" x="{x(start):.1f}" y="{middle - 8:.1f}" height="16" rx="2" '
        f'width="{max(1.5, x(start + p50) - x(start)):.1f}"/>',
        text(x(start + p95) + 6, middle + 4, f"{p50:.1f}", "tick"),
    ]


def _drawn(each: Line, x: Scale, y: Scale) -> list[str]:
    """The line with its dots, its name at its end."""
    places = [(x(a), y(max(b, _LEAST_MS))) for a, b in each.points]
    through = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = [f'<circle class="dot {each.kind}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in places]
    end_x, end_y = places[-1]
    return [
        f'<polyline class="line {each.kind}" points="{through}"/>',
        *dots,
        text(end_x + 8, end_y + 4, each.name, "label"),
    ]


def _logarithmic(low: float, high: float) -> Scale:
    """A vertical scale with room around the values and at least two marks on it."""
    low, high = max(low, _LEAST_MS) / 1.3, max(high, _LEAST_MS) * 1.3
    while math.log10(high / low) < 0.8:
        low, high = low / 1.3, high * 1.3
    return Scale(low, high, PLOT_HEIGHT - BOTTOM, TOP, log=True)
