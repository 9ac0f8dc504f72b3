"""GPUs that are none: they take copies of FAISS indexes and have the limits of the real ones.

As FAISS's classic GPU indexes do, they ignore selectors without a word, refuse more than `MOST`
results or lists, refuse kinds that have no GPU twin, run out of memory, and must not be used by two
threads at once. `deploy.gpu_check` compares them with what a real GPU does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from core.gpu.device import MOST, DeviceFailure, Rows, Vectors, bytes_on_gpus
from core.gpu.faiss_device import parameters_of
from core.gpu.placement import GpuSettings, Placement

# Those of FAISS's CPU indexes that its cloner takes, to one GPU or in parts to several.
_CLONED = (
    faiss.IndexFlat,
    faiss.IndexIVFFlat,
    faiss.IndexIVFScalarQuantizer,
    faiss.IndexIVFPQ,
)


class FakeDevice:
    """Holds copies of at most `memory_bytes` on each of `gpus`.

    With `honours` selectors are heeded, as by FAISS's cuVS builds; a `broken` one finds wrong rows.
    `searches` counts what was asked of all copies, `failing` makes them fail, `disturbed` tells
    that two threads met.
    """

    def __init__(
        self,
        *,
        gpus: int = 1,
        memory_bytes: int = 2**40,
        honours: bool = False,
        broken: bool = False,
    ) -> None:
        self.gpus = tuple(range(gpus))
        self.honours = honours
        self.broken = broken
        self.failing = False
        self.searches = 0
        self.used = 0
        self._memory = memory_bytes * gpus
        self.disturbed = False
        self._busy = threading.RLock()

    def clone(self, index: Any, *, float16: bool) -> FakeClone:
        """Copies an index; raises DeviceFailure as FAISS's cloner would."""
        if not isinstance(index, _CLONED):
            raise DeviceFailure("This index type is not implemented on GPU.")
        size = bytes_on_gpus(index, float16=float16)
        with self.in_use():
            if self.used + size > self._memory:
                raise DeviceFailure("cudaMalloc error out of memory [2]")
            self.used += size
            return FakeClone(self, faiss.clone_index(index), size, rounded=float16)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """One thread's turn; `disturbed` is set if another comes meanwhile."""
        if not self._busy.acquire(blocking=False):
            self.disturbed = True
            raise AssertionError("two threads use the resources of one GPU")
        try:
            yield
        finally:
            self._busy.release()


class FakeClone:
    """A copy of an index; its memory is free again when nothing refers to it."""

    def __init__(self, device: FakeDevice, index: Any, size: int, *, rounded: bool) -> None:
        self._device = device
        self._index = index
        self._size = size
        self._rounded = rounded and not hasattr(index, "nlist")

    def search(
        self, query: Vectors, count: int, nprobe: int, selector: Any | None
    ) -> tuple[Vectors, Rows]:
        """See `core.gpu.device.Clone`."""
        if count > MOST:
            raise DeviceFailure(f"GPU index only supports min/max-K selection up to {MOST}")
        if nprobe > MOST:
            raise DeviceFailure(f"GPU IVF index only supports nprobe selection up to {MOST}")
        if self._device.failing:
            raise DeviceFailure("cudaMalloc error out of memory [2]")
        with self._device.in_use():
            self._device.searches += 1
            heeded = selector if self._device.honours else None
            parameters = parameters_of(nprobe, heeded, lists=hasattr(self._index, "nlist"))
            distances, rows = self._index.search(query.reshape(1, -1), count, params=parameters)
        there = rows[0] >= 0
        found, where = distances[0][there], rows[0][there]
        if self._rounded:
            found = found.astype(np.float16).astype(np.float32)
        return (found, (where + 1) % self._index.ntotal) if self._device.broken else (found, where)

    def __del__(self) -> None:
        with self._device.in_use():
            self._device.used -= self._size


class Placed:
    """A placement, and what it told."""

    def __init__(self, device: FakeDevice, **settings: object) -> None:
        self.places: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.placement = Placement.create(
            GpuSettings(**{"least_rows": 1000, **settings}),  # type: ignore[arg-type]
            device,
            on_place=lambda place: self.places.update([place]),
            on_fallback=lambda reason: self.fallbacks.update([reason]),
        )
