"""How long settings take: only window and depth of reranking matter, so only they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.evaluation.runs import Searcher
from deploy.evaluation.space import Space
from deploy.evaluation.systems import System, parse

Cell = tuple[int, int]
"""A window and a depth of reranking, 0 for none."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a page at the client."""

    p50: float
    p95: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Of single searches."""
        p50, p95 = np.percentile(milliseconds, [50, 95])
        return cls(float(p50), float(p95))


def cell(system: System) -> Cell:
    """What a setting's latency depends on."""
    return system.window, system.depth if system.rerank else 0


def measure_cells(
    searcher: Searcher,
    space: Space,
    texts: Sequence[str],
    page_size: int,
    on_query: Callable[[], None],
) -> Mapping[Cell, Latency]:
    """The latency of every window and depth; cells take turns, text by text.

    `on_query` is called after each text.
    """
    systems = [
        parse(f"rrf:window={window}" + (f":depth={depth}" if depth else ""))
        for window in space.windows
        for depth in (0, *space.depths)
    ]
    taken: dict[Cell, list[float]] = {cell(system): [] for system in systems}
    for text in texts:
        for system in systems:
            taken[cell(system)].append(searcher.ask(system, text, page_size)[1])
        on_query()
    return {each: Latency.of(milliseconds) for each, milliseconds in taken.items()}
