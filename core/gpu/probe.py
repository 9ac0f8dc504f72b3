"""Whether GPUs can be trusted: small indexes are searched there and on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np

from core.gpu.device import Clone, Device, DeviceFailure, Vectors
from core.vectors.engine import CpuEngine
from core.vectors.kinds import KINDS
from core.vectors.selection import Selection

_DIMENSION = 32
_VECTORS = 1024
_QUERIES = 16
_COUNT = 10
_LISTS = 16
# Sums of float32 come in another order.
_TOLERANCE = 1e-3
# Equal scores may come in another order.
_SAME_ROWS = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What GPUs may be used for.

    `wrong` says what they got wrong; empty if they can be used. `selecting` are the kinds of index
    whose searches leave out what a selector leaves out.
    """

    wrong: str = ""
    selecting: frozenset[str] = field(default_factory=frozenset)


def probe(device: Device) -> Verdict:
    """Compares unfiltered and filtered searches of every kind with the CPU's."""
    chance = np.random.default_rng(17)
    vectors = chance.standard_normal((_VECTORS, _DIMENSION), dtype=np.float32)
    queries = vectors[:_QUERIES] + np.float32(0.1)
    selecting = set()
    for name, index in _toys(vectors):
        try:
            clone = device.clone(index, float16=False)
            if not _agree(clone, index, queries, None):
                return Verdict(f"a search of a {name} index is not what the CPU finds")
            if _selects(clone, index, queries):
                selecting.add(name)
        except DeviceFailure as failure:
            return Verdict(f"a {name} index fails: {failure}")
    return Verdict(selecting=frozenset(selecting))


def _toys(vectors: Vectors) -> Iterator[tuple[str, Any]]:
    """An index of each kind that runs on GPUs; searches look into half of its lists."""
    for kind in KINDS.values():
        if kind.runs_on_gpu:
            index = kind.make(_DIMENSION, faiss.METRIC_INNER_PRODUCT, _LISTS)
            index.train(vectors)
            index.add(vectors)
            yield kind.name, index


def _selects(clone: Clone, index: Any, queries: Vectors) -> bool:
    """Whether a search for every third row finds these and no others."""
    return _agree(clone, index, queries, Selection(np.arange(_VECTORS) % 3 == 0))


def _agree(clone: Clone, index: Any, queries: Vectors, selection: Selection | None) -> bool:
    nprobe = _LISTS // 2 if hasattr(index, "nlist") else 0
    selector = None if selection is None else selection.selector
    cpu, same = CpuEngine(index), 0
    for query in queries:
        distances, rows = clone.search(query, _COUNT, nprobe, selector)
        expected = cpu.search(query, _COUNT, selection, nprobe)
        if len(rows) != len(expected[1]) or not np.allclose(
            distances, expected[0], rtol=_TOLERANCE, atol=_TOLERANCE
        ):
            return False
        same += len(np.intersect1d(rows, expected[1]))
    return same >= _SAME_ROWS * _COUNT * len(queries)
