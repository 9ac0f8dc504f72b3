"""Which of the candidates one page shows: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.candidates import Candidates
from gateway.fusion import Blended, Fused
from gateway.groups import Group
from gateway.query import Query


@dataclass(frozen=True, slots=True)
class Page:
    """Hits, or groups if the query asks for them, of which `group_size` members are shown each.

    `next_offset` is None on the last page.
    """

    hits: Sequence[Blended]
    groups: Sequence[Group] | None
    group_size: int
    next_offset: int | None

    @property
    def shown(self) -> list[Fused]:
        """The documents on the page, each once."""
        members = [hit for group in self.groups or () for hit in group.members[: self.group_size]]
        return list({hit.fused.id: hit.fused for hit in (*self.hits, *members)}.values())


def page_of(candidates: Candidates, query: Query, offset: int) -> Page:
    """The hits, or groups, from number `offset` on, counted from 0."""
    end = offset + query.page_size
    if not query.group_by:
        following = end if end < len(candidates) else None
        return Page(candidates.ranking(end)[offset:], None, 0, following)
    groups = candidates.groups()
    following = end if end < len(groups) else None
    return Page((), groups[offset:end], query.group_size, following)
