"""What plots are made of: a scale, axes and lines as SVG text, coloured by the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
PLOT_HEIGHT = 240
LEFT, RIGHT, TOP, BOTTOM = 68, 24, 16, 44


@dataclass(frozen=True, slots=True)
class Scale:
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
        """Round values within the scale."""
        if self.log and len(marks := _decades(self.low, self.high)) > 1:
            return marks
        step = _nice((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def axes(x: Scale, y: Scale, x_axis: str, y_axis: str, x_ticks: Sequence[float]) -> list[str]:
    """Grid, ticks and names of both axes of a plot of PLOT_HEIGHT."""
    labels = [
        text(x(tick), PLOT_HEIGHT - BOTTOM + 17, f"{tick:g}", "tick middle") for tick in x_ticks
    ]
    return [
        grid_y(y),
        *labels,
        text((LEFT + WIDTH) / 2, PLOT_HEIGHT - 6, x_axis, "axis middle"),
        f'<text class="axis middle" transform="translate(13 {PLOT_HEIGHT / 2 - 12}) rotate(-90)">'
        f"{escape(y_axis)}</text>",
    ]


def grid_y(y: Scale) -> str:
    """Lines across the plot with their values."""
    rows = []
    for tick in y.ticks():
        rows.append(line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        rows.append(text(LEFT - 8, y(tick) + 4, f"{tick:g}", "tick end"))
    return "".join(rows)


def grid_x(x: Scale, top: float, bottom: float) -> str:
    """Lines down the plot with their values."""
    columns = []
    for tick in x.ticks():
        columns.append(line(x(tick), top, x(tick), bottom - 4, "grid"))
        columns.append(text(x(tick), bottom + 10, f"{tick:g}", "tick middle"))
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


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, kind: str) -> str:
    """Words at a place; classes `end` and `middle` say what of them lies there."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def svg(height: float, drawn: Sequence[str], title: str) -> str:
    """The whole picture, WIDTH wide; `title` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg>"
    )
