"""A search looks into enough lists for what it wants, however few the measured recall needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.vectors.engine import Rows, Vectors
from core.vectors.index import VectorIndex
from core.vectors.selection import Selection
from tests.fakes.indexes import clustered, make_index

ROWS = 8000


class Noting:
    """An engine that notes how many rows it found, search by search."""

    exact = True
    selects = True

    def __init__(self, index: VectorIndex) -> None:
        self._engine = index.engine
        self.found: list[int] = []

    def search(
        self, query: Vectors, count: int, selection: Selection | None, effort: int
    ) -> tuple[Vectors, Rows]:
        """As the engine behind it."""
        distances, rows = self._engine.search(query, count, selection, effort)
        self.found.append(len(rows))
        return distances, rows


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "ivf_pq"])
def test_a_search_for_many_finds_them_without_scoring_every_row(tmp_path: Path, kind: str) -> None:
    index = make_index(tmp_path / kind, clustered(ROWS, 16), kind)
    # Lists hold 60 rows on average: one is enough for the nearest 10, not for 200.
    index.effort = 1
    engine = Noting(index)

    for query in clustered(20, 16, seed=5):
        _, rows = index.on(engine).search(query, 200, None)
        assert len(rows) == 200

    assert min(engine.found) >= 200
