"""GPUs as FAISS sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np

from core.errors import BadEnvironment
from core.gpu.device import DeviceFailure, Rows, Vectors

# FAISS would reserve up to 1.5 GB on each GPU; searches of one query need a few bytes per vector.
_SCRATCH_BYTES = 256 * 2**20
_WHERE = re.compile(r"^Error in .* at \S+:\d+: (Error: )?", re.S)


class FaissDevice:
    """Copies indexes to GPUs with FAISS's cloners; for one thread at a time, see `device`."""

    def __init__(self, gpus: Sequence[int]) -> None:
        self.gpus = tuple(gpus)
        self._resources = [faiss.StandardGpuResources() for _ in self.gpus]
        for resources in self._resources:
            resources.setTempMemory(_SCRATCH_BYTES)

    @classmethod
    def find(cls, wanted: Sequence[int]) -> FaissDevice | None:
        """The GPUs of these numbers, all that there are if none is named; None without any.

        Raises BadEnvironment if one of those named is not there.
        """
        count = gpu_count()
        missing = sorted(set(wanted) - set(range(count)))
        if missing:
            raise BadEnvironment(
                f"GPU {missing[0]} is not there, FAISS sees {count}",
                field="gpus",
                remedy="install faiss-gpu instead of faiss-cpu, or name other GPUs",
            )
        return cls(wanted or range(count)) if count else None

    def clone(self, index: Any, *, float16: bool) -> FaissClone:
        """Copies an index to the GPU, or a part of it to each; raises DeviceFailure."""
        options = faiss.GpuMultipleClonerOptions()
        options.shard = len(self.gpus) > 1
        options.useFloat16 = float16
        options.allowCpuCoarseQuantizer = True
        try:
            copied = faiss.index_cpu_to_gpu_multiple_py(
                self._resources, index, options, gpus=[*self.gpus]
            )
        except RuntimeError as error:
            raise DeviceFailure(_complaint(error)) from error
        return FaissClone(copied, self._resources, lists=hasattr(index, "nlist"))

    def __repr__(self) -> str:
        return f"<FaissDevice GPUs {', '.join(map(str, self.gpus))}>"


class FaissClone:
    """A FAISS index on one GPU, or shards of it on several."""

    def __init__(self, index: Any, resources: Sequence[Any], *, lists: bool) -> None:
        self._index = index
        # They must outlive the index.
        self._resources = resources
        self._lists = lists

    def search(
        self, query: Vectors, count: int, nprobe: int, selector: Any | None
    ) -> tuple[Vectors, Rows]:
        """See `device.Clone`."""
        parameters = parameters_of(nprobe, selector, lists=self._lists)
        row = np.ascontiguousarray(query, np.float32).reshape(1, -1)
        try:
            distances, rows = self._index.search(row, count, params=parameters)
        except RuntimeError as error:
            raise DeviceFailure(_complaint(error)) from error
        there = rows[0] >= 0
        return distances[0][there], rows[0][there]


def parameters_of(nprobe: int, selector: Any | None, *, lists: bool) -> Any:
    """What FAISS is told about one search of an index with inverted lists, or without."""
    given = {} if selector is None else {"sel": selector}
    if lists:
        return faiss.SearchParametersIVF(nprobe=nprobe, **given)  # type: ignore[call-arg]
    return faiss.SearchParameters(**given) if given else None


def gpu_count() -> int:
    """How many GPUs FAISS can use; 0 where its build is for CPUs."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def _complaint(error: RuntimeError) -> str:
    """What FAISS complains about, without where in its sources."""
    return _WHERE.sub("", str(error)).strip() or "no reason given"
