"""Which vector indexes are searched on GPUs: those of large segments, as long as there is room."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import BadEnvironment
from core.gpu.device import Device, DeviceFailure, bytes_on_gpus
from core.gpu.engine import Fallback, GpuEngine, Shape
from core.gpu.faiss_device import FaissDevice
from core.gpu.probe import Verdict, probe
from core.vectors.index import VectorIndex

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "gpu")
PLACES = ("gpu", "cpu", "small", "kind", "full", "failed")
"""Where an index is searched: on GPUs, or on the CPU because there are none, or it is too small, of
a kind that GPUs do not take, above the memory allowed, or refused by the GPU."""

OnPlace = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """How GPUs are used.

    `device` is one of DEVICES: "auto" takes GPUs where there are any, "gpu" refuses to start
    without. `gpus` are their numbers (none: all). `least_rows` is the smallest index that is
    copied, `megabytes` what copies may take on each GPU (0: until it is full). With `float16` flat
    vectors take half of that.
    """

    device: str = "auto"
    gpus: tuple[int, ...] = ()
    least_rows: int = 20_000
    megabytes: int = 0
    float16: bool = False


class Placement:
    """Puts indexes on GPUs or leaves them on the CPU; safe to share between threads."""

    def __init__(
        self,
        device: Device | None,
        selecting: frozenset[str],
        settings: GpuSettings,
        *,
        on_place: OnPlace,
        on_fallback: Fallback,
    ) -> None:
        self._device = device
        self._selecting = selecting
        self._settings = settings
        self._on_place = on_place
        self._on_fallback = on_fallback
        self._lock = threading.RLock()
        self.used_bytes = 0

    @classmethod
    def create(
        cls,
        settings: GpuSettings,
        device: Device | None,
        *,
        on_place: OnPlace,
        on_fallback: Fallback,
    ) -> Placement:
        """Probes the device; one that gives wrong answers is not used, and the log says why."""
        verdict = probe(device) if device is not None else Verdict()
        if verdict.wrong:
            log.error("gpus are not used, the cpu searches", extra={"reason": verdict.wrong})
            device = None
        if device is not None:
            fields = {"gpus": list(device.gpus), "selecting": sorted(verdict.selecting)}
            log.info("gpus search large segments", extra=fields)
        return cls(device, verdict.selecting, settings, on_place=on_place, on_fallback=on_fallback)

    def place(self, index: VectorIndex) -> VectorIndex:
        """The index as it is to be searched: on the GPUs, or itself."""
        where, placed = self._try(index)
        self._on_place(where)
        return placed

    def _try(self, index: VectorIndex) -> tuple[str, VectorIndex]:
        device, settings = self._device, self._settings
        if device is None:
            return "cpu", index
        if len(index) < settings.least_rows:
            return "small", index
        if not index.kind.runs_on_gpu:
            return "kind", index
        size = bytes_on_gpus(index.faiss_index, float16=settings.float16)
        allowed = settings.megabytes * 2**20 * len(device.gpus)
        with self._lock:
            if allowed and self.used_bytes + size > allowed:
                return "full", index
            try:
                clone = device.clone(index.faiss_index, float16=settings.float16)
            except DeviceFailure as failure:
                log.warning("index not copied to the gpu", extra={"reason": str(failure)})
                return "failed", index
            self.used_bytes += size
        engine = GpuEngine(index.engine, clone, self._lock, self._on_fallback, self._shape(index))
        weakref.finalize(engine, self._free, size)
        return "gpu", index.on(engine)

    def _shape(self, index: VectorIndex) -> Shape:
        return Shape(
            rows=len(index),
            lists=getattr(index.faiss_index, "nlist", 0),
            selects=index.kind.name in self._selecting,
            exact=not self._settings.float16,
        )

    def _free(self, size: int) -> None:
        with self._lock:
            self.used_bytes -= size

    def __repr__(self) -> str:
        if self._device is None:
            return "<Placement on the CPU>"
        gpus = ", ".join(map(str, self._device.gpus))
        return f"<Placement GPUs {gpus}, {self.used_bytes / 2**20:.0f} MiB in use>"


def find_gpus(settings: GpuSettings) -> Device | None:
    """The GPUs to use, None for the CPU.

    Raises BadEnvironment for a setting that makes no sense, or if GPUs are demanded that are not
    there.
    """
    if settings.device not in DEVICES:
        raise BadEnvironment(
            f"{settings.device!r} is not one of {', '.join(DEVICES)}", field="device"
        )
    if settings.device == "cpu":
        return None
    device = FaissDevice.find(settings.gpus)
    if device is None and settings.device == "gpu":
        raise BadEnvironment(
            "FAISS sees no GPU",
            field="device",
            remedy="install trireme[gpu] instead of trireme[cpu], or set auto",
        )
    return device
