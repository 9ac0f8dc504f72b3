"""Which batching to recommend. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Throughput that differs by less is noise, and then the setting stays as it is.
_GAIN = 1.05
# How much longer a lone query may take than under the best setting for it.
_LONE = 1.2
_LONE_MS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Texts in a batch at most, and microseconds that Triton waits for more before it runs one."""

    batch: int
    delay_us: int

    def __str__(self) -> str:
        return f"max_batch_size {self.batch}, max_queue_delay_microseconds {self.delay_us}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A setting under so many clients: texts per second, milliseconds per call, texts per batch."""

    setting: Setting
    clients: int
    per_second: float
    p50_ms: float
    p99_ms: float
    batch: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The setting to take, and why in words."""

    setting: Setting
    because: str


def recommend(measured: Sequence[Measured], current: Setting) -> Recommendation:
    """The greatest throughput among settings that do not make a lone query wait.

    With the fewest clients one may take a fifth or a millisecond longer than at best. `current`
    stays where nothing gains five per cent on it.
    """
    fewest = min(each.clients for each in measured)
    most = max(each.clients for each in measured)
    lone = {each.setting: each.p50_ms for each in measured if each.clients == fewest}
    allowed = max(min(lone.values()) * _LONE, min(lone.values()) + _LONE_MS)
    busy = {each.setting: each for each in measured if each.clients == most}
    quick = [setting for setting in busy if lone[setting] <= allowed]
    best = max(quick, key=lambda setting: busy[setting].per_second)
    gain = busy[best].per_second / busy[current].per_second
    if current in quick and gain < _GAIN:
        return Recommendation(
            current, f"nothing that was tried gains 5 % on it with {most} client(s)"
        )
    return Recommendation(
        best,
        f"{busy[best].per_second:.0f} texts/s with {most} client(s), {gain:.2f} times as many as "
        f"now; with {fewest} a call takes {lone[best]:.1f} ms, now {lone[current]:.1f} ms",
    )
