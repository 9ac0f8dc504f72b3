"""Plots as SVG text: no library, no external asset, colours by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

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
    grid_y,
    line,
    svg,
    text,
)

_LABELS = 190
_ROW = 26


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled value; `low` and `high` are its interval, `x` its place where a plot has one."""

    label: str
    y: float
    low: float = math.nan
    high: float = math.nan
    x: float = 0.0


def bars(points: Sequence[Point], *, axis: str, best: str) -> str:
    """One bar a row with its interval as a whisker; the row named `best` stands out."""
    high = max([point.high for point in points] + [point.y for point in points])
    height = _ROW * len(points) + BOTTOM
    scale = Scale(0.0, high * 1.02 or 1.0, _LABELS, WIDTH - 60)
    drawn = [grid_x(scale, 4, height - BOTTOM + 8)]
    for row, point in enumerate(points):
        middle = _ROW * row + 4 + _ROW / 2
        kind = "bar best" if point.label == best else "bar"
        drawn += [
            text(_LABELS - 10, middle + 4, point.label, "label end"),
            f'<rect class="{kind}" x="{_LABELS}" y="{middle - 8:.1f}" height="16" rx="2" '
            f'width="{max(0.0, scale(point.y) - _LABELS):.1f}"/>',
            line(scale(point.low), middle, scale(point.high), middle, "whisker"),
            line(scale(point.low), middle - 4, scale(point.low), middle + 4, "whisker"),
            line(scale(point.high), middle - 4, scale(point.high), middle + 4, "whisker"),
            text(WIDTH - 50, middle + 4, f"{point.y:.3f}", "value"),
        ]
    drawn.append(text((_LABELS + WIDTH - 60) / 2, height - 6, axis, "axis middle"))
    return svg(height, drawn, f"{axis} by system")


def curve(points: Sequence[Point], *, x_axis: str, y_axis: str) -> str:
    """A line through points with the band of their intervals."""
    x, y = _frame(points)
    above = [f"{x(p.x):.1f},{y(p.high):.1f}" for p in points]
    below = [f"{x(p.x):.1f},{y(p.low):.1f}" for p in reversed(points)]
    through = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in points)
    drawn = [
        *axes(x, y, x_axis, y_axis, [p.x for p in points]),
        f'<polygon class="band" points="{" ".join(above + below)}"/>',
        f'<polyline class="curve" points="{through}"/>',
    ]
    for p in points:
        drawn.append(f'<circle class="dot best" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4"/>')
        drawn.append(text(x(p.x), y(p.y) - 10, f"{p.y:+.3f}", "value middle"))
    return svg(PLOT_HEIGHT, drawn, f"{y_axis} against {x_axis}")


def scatter(points: Sequence[Point], *, x_axis: str, y_axis: str, marked: Sequence[str]) -> str:
    """Points with their labels over a logarithmic x axis; those in `marked` stand out."""
    x, y = _frame(points, log=True)
    drawn = axes(x, y, x_axis, y_axis, x.ticks())
    taken: list[tuple[float, float]] = [(x(p.x), y(p.y)) for p in points]
    for p in sorted(points, key=lambda p: (p.label not in marked, -p.y)):
        kind = "dot best" if p.label in marked else "dot"
        drawn.append(
            f'<circle class="{kind}" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4.5">'
            f"<title>{escape(p.label)}: {p.y:.4f}, {p.x:.1f} ms</title></circle>"
        )
        drawn.append(_label(p.label, x(p.x), y(p.y), taken))
    return svg(PLOT_HEIGHT, drawn, f"{y_axis} against {x_axis}")


def _label(label: str, x: float, y: float, taken: list[tuple[float, float]]) -> str:
    """The label of a point where it covers no point and no other label; else none."""
    width = 7 * len(label)
    places = [(x + 9, y), (x - 9 - width, y), (x - width / 2, y - 14), (x - width / 2, y + 14)]
    for left, down in places:
        middle = [left + share * width for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
        across = left > LEFT and left + width < WIDTH
        inside = across and TOP < down < PLOT_HEIGHT - BOTTOM
        if inside and all(abs(m - a) > 8 or abs(down - d) > 11 for m in middle for a, d in taken):
            taken += [(m, down) for m in middle]
            return text(left, down + 4, label, "label")
    return ""


def steps(differences: Sequence[float], *, axis: str) -> str:
    """Signed differences, each a thin bar, from the greatest gain to the greatest loss."""
    ordered = sorted(differences, reverse=True)
    limit = max(0.05, *(abs(value) for value in ordered))
    y = Scale(-limit, limit, PLOT_HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(ordered)
    drawn = [grid_y(y)]
    for place, value in enumerate(ordered):
        top, bottom = sorted((y(value), y(0.0)))
        kind = "gain" if value > 0 else "loss"
        drawn.append(
            f'<rect class="{kind}" x="{LEFT + place * width:.2f}" y="{top:.1f}" '
            f'width="{max(width - 0.5, 0.5):.2f}" height="{bottom - top:.1f}"/>'
        )
    drawn.append(line(LEFT, y(0.0), WIDTH - RIGHT, y(0.0), "zero"))
    drawn.append(text(WIDTH / 2, PLOT_HEIGHT - 8, f"{len(ordered)} queries", "axis middle"))
    return svg(PLOT_HEIGHT, drawn, axis)


def _frame(points: Sequence[Point], *, log: bool = False) -> tuple[Scale, Scale]:
    low = min(p.y if math.isnan(p.low) else p.low for p in points)
    high = max(p.y if math.isnan(p.high) else p.high for p in points)
    # Differences that do not matter shall not look great.
    space = max((high - low) * 0.12, (0.02 - (high - low)) / 2)
    left, right = min(p.x for p in points), max(p.x for p in points)
    edges = (left / 1.25, right * 1.25) if log else (left, right)
    x = Scale(*edges, LEFT + 14, WIDTH - RIGHT - 14, log=log)
    return x, Scale(low - space, high + space, PLOT_HEIGHT - BOTTOM, TOP)
