"""Tries a machine's GPUs as a shard would use them, and prints what they are worth.

    python -m deploy.gpu_check [--rows N] [--dimension N] [--queries N] [--json]

Ends with 0 if every GPU can be used, with 1 if one gives wrong answers, with 2 if FAISS sees none.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from core.gpu.device import Device
from core.gpu.faiss_device import FaissDevice, gpu_count
from core.gpu.placement import GpuSettings, Placement
from core.gpu.probe import probe
from core.vectors.choosing import Plan
from core.vectors.index import VectorIndex
from core.vectors.kinds import KINDS, Kind
from core.vectors.sealing import write_vectors
from core.vectors.selection import Selection
from core.vectors.settings import TARGET_RECALL

Vectors = NDArray[np.float32]

# As many as a gateway asks of each leg.
COUNT = 100
_CLUSTERS = 256
# One row in so many may be found in the filtered search.
_ONE_IN = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """One kind of index on the CPU and on some GPUs; times are medians of single searches.

    `same` is the share of the CPU's rows that the GPU finds, `same_filtered` of those of a filtered
    search; `fallbacks` counts searches that the CPU answered after all.
    """

    kind: str
    gpus: int
    place: str
    copied_seconds: float
    cpu_ms: float
    gpu_ms: float
    same: float
    cpu_filtered_ms: float
    gpu_filtered_ms: float
    same_filtered: float
    fallbacks: int

    @property
    def speedup(self) -> float:
        """How many times as fast a search is as on the CPU."""
        return self.cpu_ms / self.gpu_ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    if not gpu_count():
        print(
            "FAISS sees no GPU here: nothing was checked. On a machine with one, install "
            "trireme[gpu] instead of trireme[cpu] and look at nvidia-smi.",
            file=sys.stderr,
        )
        return 2
    devices = [FaissDevice([gpu]) for gpu in range(gpu_count())]
    if len(devices) > 1:
        devices.append(FaissDevice(range(gpu_count())))
    wrong = [f"{device}: {probe(device).wrong}" for device in devices if probe(device).wrong]
    figures = list(check(devices, asked.rows, asked.dimension, asked.queries))
    selecting = sorted(probe(devices[0]).selecting)
    if asked.json:
        shown = [{**asdict(one), "speedup": one.speedup} for one in figures]
        print(json.dumps({"wrong": wrong, "selecting": selecting, "figures": shown}))
    else:
        _print(wrong, selecting, figures)
    return 1 if wrong else 0


def check(devices: Sequence[Device], rows: int, dimension: int, queries: int) -> Iterator[Figures]:
    """Builds an index of every kind that runs on GPUs and searches it on each device."""
    vectors = _clustered(rows + queries, dimension)
    with tempfile.TemporaryDirectory(prefix="trireme-gpu-") as folder:
        for kind in KINDS.values():
            if kind.runs_on_gpu:
                index = _build(Path(folder) / kind.name, vectors[:rows], kind)
                for device in devices:
                    yield _compare(index, device, vectors[rows:])


def _build(directory: Path, vectors: Vectors, kind: Kind) -> VectorIndex:
    directory.mkdir()
    plan = Plan(kind, next(iter(kind.precisions), ""), TARGET_RECALL)
    sealed = write_vectors(directory, [vectors], vectors.shape[1], "cosine", plan)
    return VectorIndex.open({path.name: path for path in sealed.paths}, sealed.effort)


def _compare(index: VectorIndex, device: Device, queries: Vectors) -> Figures:
    places: Counter[str] = Counter()
    fallbacks: Counter[str] = Counter()
    placement = Placement.create(
        GpuSettings(least_rows=1),
        device,
        on_place=lambda place: places.update([place]),
        on_fallback=lambda reason: fallbacks.update([reason]),
    )
    started = time.perf_counter()
    on_gpu = placement.place(index)
    copied = time.perf_counter() - started
    some = Selection(np.arange(len(index)) % _ONE_IN == 0)
    cpu, filtered = _search(index, queries, None), _search(index, queries, some)
    gpu, filtered_on_gpu = _search(on_gpu, queries, None), _search(on_gpu, queries, some)
    return Figures(
        kind=index.kind.name,
        gpus=len(device.gpus),
        place=next(iter(places)),
        copied_seconds=copied,
        cpu_ms=cpu.milliseconds,
        gpu_ms=gpu.milliseconds,
        same=gpu.share_of(cpu),
        cpu_filtered_ms=filtered.milliseconds,
        gpu_filtered_ms=filtered_on_gpu.milliseconds,
        same_filtered=filtered_on_gpu.share_of(filtered),
        fallbacks=fallbacks.total(),
    )


@dataclass(frozen=True, slots=True)
class _Searched:
    milliseconds: float
    rows: tuple[frozenset[int], ...]

    def share_of(self, truth: _Searched) -> float:
        """The part of another search's rows that are among these."""
        pairs = zip(self.rows, truth.rows, strict=True)
        found = sum(len(own & other) for own, other in pairs)
        return found / sum(len(rows) for rows in truth.rows)


def _search(index: VectorIndex, queries: Vectors, selection: Selection | None) -> _Searched:
    index.search(queries[0], COUNT, selection)
    times, rows = [], []
    for query in queries:
        started = time.perf_counter()
        found = index.search(query, COUNT, selection)[1]
        times.append(1000 * (time.perf_counter() - started))
        rows.append(frozenset(found.tolist()))
    return _Searched(float(np.median(times)), tuple(rows))


def _clustered(rows: int, dimension: int) -> Vectors:
    """Vectors of length 1 around many centres, float32 [rows, dimension]."""
    chance = np.random.default_rng(11)
    centres = chance.standard_normal((_CLUSTERS, dimension), dtype=np.float32)
    vectors = chance.standard_normal((rows, dimension), dtype=np.float32)
    vectors += centres[chance.integers(0, _CLUSTERS, rows)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _print(wrong: Sequence[str], selecting: Sequence[str], figures: Sequence[Figures]) -> None:
    console = Console()
    for line in wrong:
        console.print(f"[red]wrong:[/] {line}")
    console.print(f"selectors are heeded by: {', '.join(selecting) or 'none, so over-fetch'}")
    names = ("kind", "GPUs", "place", "copy s", "CPU ms", "GPU ms", "faster", "same")
    table = Table(*names, "filtered: CPU ms", "GPU ms", "same", "fallbacks")
    for one in figures:
        table.add_row(
            one.kind,
            str(one.gpus),
            one.place,
            f"{one.copied_seconds:.2f}",
            f"{one.cpu_ms:.2f}",
            f"{one.gpu_ms:.2f}",
            f"{one.speedup:.1f} x",
            f"{one.same:.4f}",
            f"{one.cpu_filtered_ms:.2f}",
            f"{one.gpu_filtered_ms:.2f}",
            f"{one.same_filtered:.4f}",
            str(one.fallbacks),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
