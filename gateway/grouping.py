"""Finds out in which groups the candidates are, and looks for more if they are in too few."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.deadline import Deadline
from core.errors import TriremeError
from core.ranking_wish import MAX_WINDOW
from gateway import planning, trace
from gateway.attributes import read_attribute
from gateway.groups import Memberships, count_full, groups_of
from gateway.legs import LegRunner, Legs
from gateway.query import Query
from gateway.trace import Trace
from gateway.view import View

_WIDER = 4
_MOST_TIMES = 2
# Looking again is for those who have time: it must leave the larger part of it for reranking.
_WIDEN_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Grouped:
    """The query with the window that was used, what its legs found, and the groups of that."""

    query: Query
    legs: Legs
    memberships: Memberships


class Grouping:
    """Reads groups through the legs' shards."""

    def __init__(self, legs: LegRunner) -> None:
        self._legs = legs

    async def group(
        self, view: View, query: Query, legs: Legs, diary: Trace, deadline: Deadline
    ) -> Grouped:
        """The groups of what `legs` found.

        If they do not fill the first page, wider windows are tried, in a part of the time.
        Candidates whose shard does not answer are in no group.
        """
        grouped = await self._read(view, query, legs, diary, deadline)
        patience = planning.share(deadline, _WIDEN_SHARE)
        for _ in range(_MOST_TIMES):
            if not _needs_more(grouped) or not patience.remaining():
                break
            wider = replace(query, window=min(MAX_WINDOW, grouped.query.window * _WIDER))
            attempt = Trace()
            try:
                more = await self._legs.ask(view, wider, attempt, patience)
            except TriremeError:
                break
            if attempt.degraded:
                break  # fewer groups of everything are better than more of a part
            diary.include(attempt)
            grouped = await self._read(view, wider, more, diary, deadline)
        return grouped

    async def _read(
        self, view: View, query: Query, legs: Legs, diary: Trace, deadline: Deadline
    ) -> Grouped:
        found = [candidate for leg in legs.found.values() for candidate in leg.ranking]
        with diary.stage(trace.GROUP):
            patience = planning.share(deadline, planning.LEG_SHARE)
            values, missing = await read_attribute(view, query.group_by, found, patience)
        diary.degrade(missing)
        return Grouped(query, legs, {id: groups_of(value) for id, value in values.items()})


def _needs_more(grouped: Grouped) -> bool:
    """Whether too few groups are full, and a leg may find more."""
    query = grouped.query
    if query.window >= MAX_WINDOW:
        return False
    if count_full(grouped.memberships, query.group_size) >= query.page_size:
        return False
    return any(len(leg.ranking) >= query.window for leg in grouped.legs.found.values())
