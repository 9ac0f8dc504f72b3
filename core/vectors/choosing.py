"""Which kind of index a segment gets: pure, from its size, the settings and the device."""

from __future__ import annotations

from dataclasses import dataclass

from core.vectors.kinds import (
    FLAT,
    IVF_FLAT,
    IVF_PQ,
    IVF_RABITQ,
    IVF_SQ8,
    KINDS,
    Kind,
)
from core.vectors.settings import AUTO, VectorSettings

# Fastest first at the default recall; what a graphics card cannot hold comes after what it can.
_ON_CPU = (IVF_PQ, IVF_RABITQ, IVF_SQ8, IVF_FLAT)
_ON_GPU = (IVF_FLAT, IVF_SQ8, IVF_PQ, IVF_RABITQ)


@dataclass(frozen=True, slots=True)
class Plan:
    """A kind of index, how the vectors beside it are stored (empty: not), the recall to meet."""

    kind: Kind
    precision: str
    target_recall: float

    @property
    def is_flat(self) -> bool:
        """Whether nothing is to be built or measured."""
        return self.kind.name == FLAT


FLAT_PLAN = Plan(KINDS[FLAT], "", 1.0)


def choose_kind(
    rows: int,
    dimension: int,
    similarity: str,
    settings: VectorSettings,
    *,
    shard_rows: int,
    shard_count: int,
    gpu: bool = False,
) -> Plan:
    """The plan for a segment of `rows` vectors in a shard of `shard_rows`.

    The first kind that fits is taken whose bytes per vector stay within the segment's part of the
    memory budget, else the smallest one. A fixed kind is taken as it is, if it fits the vectors.
    """
    if rows < settings.seal_rows or settings.kind == FLAT:
        return FLAT_PLAN
    names = (_ON_GPU if gpu else _ON_CPU) if settings.kind == AUTO else (settings.kind,)
    fitting = [kind for name in names if (kind := KINDS[name]).fits(rows, dimension, similarity)]
    options = [(kind, each) for kind in fitting or [KINDS[IVF_FLAT]] for each in kind.precisions]
    affordable = _bytes_per_vector(settings, shard_rows=shard_rows, shard_count=shard_count)

    def size(option: tuple[Kind, str]) -> float:
        return option[0].bytes_per_vector(dimension, option[1])

    within = [option for option in options if size(option) <= affordable]
    kind, precision = within[0] if within else min(options, key=size)
    return Plan(kind, precision, settings.target_recall)


def better(plan: Plan) -> Plan | None:
    """What to try when a plan does not meet its recall; None if there is nothing better."""
    if plan.precision != plan.kind.precisions[0]:
        return Plan(plan.kind, plan.kind.precisions[0], plan.target_recall)
    if not plan.kind.better:
        return None
    kind = KINDS[plan.kind.better]
    return Plan(kind, kind.precisions[0], plan.target_recall)


def _bytes_per_vector(settings: VectorSettings, *, shard_rows: int, shard_count: int) -> float:
    if not settings.memory_budget_bytes:
        return float("inf")
    return settings.memory_budget_bytes / shard_count / max(1, shard_rows)
