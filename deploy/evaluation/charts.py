"""Plots as SVG text: no library, no external asset, colours by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
_LABELS = 190
_ROW = 26
_PLOT_HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 24, 16, 44


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled value; `low` and `high` are its interval, `x` its place where a plot has one."""

    label: str
    y: float
    low: float = math.nan
    high: float = math.nan
    x: float = 0.0


@dataclass(frozen=True, slots=True)
class _Scale:
    """Data to pixels; `log` for a logarithmic axis of positive values."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._at(self.low), self._at(self.high)
        share = (self._at(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log and len(marks := _decades(self.low, self.high)) > 1:
            return marks
        step = _nice((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def bars(points: Sequence[Point], *, axis: str, best: str) -> str:
    """One bar a row with its interval as a whisker; the row named `best` stands out."""
    high = max([point.high for point in points] + [point.y for point in points])
    height = _ROW * len(points) + _BOTTOM
    scale = _Scale(0.0, high * 1.02 or 1.0, _LABELS, WIDTH - 60)
    drawn = [_grid_x(scale, 4, height - _BOTTOM + 8)]
    for row, point in enumerate(points):
        middle = _ROW * row + 4 + _ROW / 2
        kind = "bar best" if point.label == best else "bar"
        drawn += [
            _text(_LABELS - 10, middle + 4, point.label, "label end"),
            f'<rect class="{kind}" x="{_LABELS}" y="{middle - 8:.1f}" height="16" rx="2" '
            f'width="{max(0.0, scale(point.y) - _LABELS):.1f}"/>',
            _line(scale(point.low), middle, scale(point.high), middle, "whisker"),
            _line(scale(point.low), middle - 4, scale(point.low), middle + 4, "whisker"),
            _line(scale(point.high), middle - 4, scale(point.high), middle + 4, "whisker"),
            _text(WIDTH - 50, middle + 4, f"{point.y:.3f}", "value"),
        ]
    drawn.append(_text((_LABELS + WIDTH - 60) / 2, height - 6, axis, "axis middle"))
    return _svg(height, drawn, f"{axis} by system")


def curve(points: Sequence[Point], *, x_axis: str, y_axis: str) -> str:
    """A line through points with the band of their intervals."""
    x, y = _frame(points)
    above = [f"{x(p.x):.1f},{y(p.high):.1f}" for p in points]
    below = [f"{x(p.x):.1f},{y(p.low):.1f}" for p in reversed(points)]
    through = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in points)
    drawn = [
        *_axes(x, y, x_axis, y_axis, [p.x for p in points]),
        f'<polygon class="band" points="{" ".join(above + below)}"/>',
        f'<polyline class="curve" points="{through}"/>',
    ]
    for p in points:
        drawn.append(f'<circle class="dot best" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4"/>')
        drawn.append(_text(x(p.x), y(p.y) - 10, f"{p.y:+.3f}", "value middle"))
    return _svg(_PLOT_HEIGHT, drawn, f"{y_axis} against {x_axis}")


def scatter(points: Sequence[Point], *, x_axis: str, y_axis: str, marked: Sequence[str]) -> str:
    """Points with their labels over a logarithmic x axis; those in `marked` stand out."""
    x, y = _frame(points, log=True)
    drawn = _axes(x, y, x_axis, y_axis, x.ticks())
    taken: list[tuple[float, float]] = [(x(p.x), y(p.y)) for p in points]
    for p in sorted(points, key=lambda p: (p.label not in marked, -p.y)):
        kind = "dot best" if p.label in marked else "dot"
        drawn.append(
            f'<circle class="{kind}" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4.5">'
            f"<title>{escape(p.label)}: {p.y:.4f}, {p.x:.1f} ms</title></circle>"
        )
        drawn.append(_label(p.label, x(p.x), y(p.y), taken))
    return _svg(_PLOT_HEIGHT, drawn, f"{y_axis} against {x_axis}")


def _label(text: str, x: float, y: float, taken: list[tuple[float, float]]) -> str:
    """The label of a point where it covers no point and no other label; else none."""
    width = 7 * len(text)
    places = [(x + 9, y), (x - 9 - width, y), (x - width / 2, y - 14), (x - width / 2, y + 14)]
    for left, down in places:
        middle = [left + share * width for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
        across = left > _LEFT and left + width < WIDTH
        inside = across and _TOP < down < _PLOT_HEIGHT - _BOTTOM
        if inside and all(abs(m - a) > 8 or abs(down - d) > 11 for m in middle for a, d in taken):
            taken += [(m, down) for m in middle]
            return _text(left, down + 4, text, "label")
    return ""


def steps(differences: Sequence[float], *, axis: str) -> str:
    """Signed differences, each a thin bar, from the greatest gain to the greatest loss."""
    ordered = sorted(differences, reverse=True)
    limit = max(0.05, *(abs(value) for value in ordered))
    y = _Scale(-limit, limit, _PLOT_HEIGHT - _BOTTOM, _TOP)
    width = (WIDTH - _LEFT - _RIGHT) / len(ordered)
    drawn = [_grid_y(y)]
    for place, value in enumerate(ordered):
        top, bottom = sorted((y(value), y(0.0)))
        kind = "gain" if value > 0 else "loss"
        drawn.append(
            f'<rect class="{kind}" x="{_LEFT + place * width:.2f}" y="{top:.1f}" '
            f'width="{max(width - 0.5, 0.5):.2f}" height="{bottom - top:.1f}"/>'
        )
    drawn.append(_line(_LEFT, y(0.0), WIDTH - _RIGHT, y(0.0), "zero"))
    drawn.append(_text(WIDTH / 2, _PLOT_HEIGHT - 8, f"{len(ordered)} queries", "axis middle"))
    return _svg(_PLOT_HEIGHT, drawn, axis)


def _frame(points: Sequence[Point], *, log: bool = False) -> tuple[_Scale, _Scale]:
    low = min(p.y if math.isnan(p.low) else p.low for p in points)
    high = max(p.y if math.isnan(p.high) else p.high for p in points)
    # Differences that do not matter shall not look great.
    space = max((high - low) * 0.12, (0.02 - (high - low)) / 2)
    left, right = min(p.x for p in points), max(p.x for p in points)
    edges = (left / 1.25, right * 1.25) if log else (left, right)
    x = _Scale(*edges, _LEFT + 14, WIDTH - _RIGHT - 14, log=log)
    return x, _Scale(low - space, high + space, _PLOT_HEIGHT - _BOTTOM, _TOP)


def _axes(x: _Scale, y: _Scale, x_axis: str, y_axis: str, x_ticks: Sequence[float]) -> list[str]:
    labels = [
        _text(x(tick), _PLOT_HEIGHT - _BOTTOM + 17, f"{tick:g}", "tick middle") for tick in x_ticks
    ]
    return [
        _grid_y(y),
        *labels,
        _text((_LEFT + WIDTH) / 2, _PLOT_HEIGHT - 6, x_axis, "axis middle"),
        f'<text class="axis middle" transform="translate(13 {_PLOT_HEIGHT / 2 - 12}) rotate(-90)">'
        f"{escape(y_axis)}</text>",
    ]


def _grid_y(y: _Scale) -> str:
    rows = []
    for tick in y.ticks():
        rows.append(_line(_LEFT, y(tick), WIDTH - _RIGHT, y(tick), "grid"))
        rows.append(_text(_LEFT - 8, y(tick) + 4, f"{tick:g}", "tick end"))
    return "".join(rows)


def _grid_x(x: _Scale, top: float, bottom: float) -> str:
    columns = []
    for tick in x.ticks():
        columns.append(_line(x(tick), top, x(tick), bottom - 4, "grid"))
        columns.append(_text(x(tick), bottom + 10, f"{tick:g}", "tick middle"))
    return "".join(columns)


def _nice(step: float) -> float:
    """The next greater of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * lead for lead in (1, 2, 5, 10) if power * lead >= step * (1 - 1e-9))


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two values."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [lead * 10.0**power for power in powers for lead in (1, 2, 5)]
    return [mark for mark in marks if low <= mark <= high]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(height: float, drawn: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg>"
    )
