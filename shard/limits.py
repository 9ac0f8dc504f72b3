"""Which documents of a generation a query may find, and how its legs keep to that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.filters.tree import Node
from core.masks import EXACT, Mask
from core.matching import Matcher
from core.query_syntax import Constraint
from core.segment import Segment

# One query's legs ask for the same mask one after the other; a byte per document for each.
_REMEMBERED = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Documents must match `filter` and satisfy `constraint`; None asks for nothing."""

    filter: Node | None = None
    constraint: Constraint | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a leg kept to a query's limits: in which ways, `matching` of how many `documents`."""

    strategies: frozenset[str]
    matching: int
    documents: int


class Masks:
    """The masks of one generation; those of the last queries are remembered."""

    def __init__(self, segments: Sequence[Segment], matcher: Matcher) -> None:
        self._segments = segments
        self._matcher = matcher
        self._known: OrderedDict[Limits, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, limits: Limits) -> Mask | None:
        """The living documents within these limits; None if there are no limits."""
        if limits == NO_LIMITS:
            return None
        with self._lock:
            if (known := self._known.get(limits)) is not None:
                self._known.move_to_end(limits)
                return known
        mask = self._made(limits)
        with self._lock:
            self._known[limits] = mask
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return mask

    def _made(self, limits: Limits) -> Mask:
        node = limits.filter
        parts = [~each.dead if node is None else each.matching(node) for each in self._segments]
        if limits.constraint is not None and parts:
            ends = np.cumsum([len(part) for part in parts])
            allowed = np.split(self._matcher.satisfying(limits.constraint), ends[:-1])
            parts = [part & other for part, other in zip(parts, allowed, strict=True)]
        return Mask(parts)


def plan_of(mask: Mask, documents: int, strategies: Iterable[str]) -> Plan:
    """What a leg did with a mask; nothing at all is found exactly."""
    return Plan(frozenset(strategies) or frozenset({EXACT}), mask.count, documents)
