"""Where a candidate stands in a ranking, and whether that is on the first page: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.fusion import Blended
from gateway.groups import Memberships, form_groups
from gateway.query import Query


@dataclass(frozen=True, slots=True)
class Standing:
    """A place in a ranking, from 1; `group` and `place` within it are 0 if there are no groups."""

    rank: int
    group: int
    place: int
    on_page: bool


def standing(
    document_id: str, ranking: Sequence[Blended], memberships: Memberships | None, query: Query
) -> Standing:
    """Where a document of `ranking` stands; of several groups, where it is shown or comes first."""
    ids = [ranked.fused.id for ranked in ranking]
    rank = ids.index(document_id) + 1
    if memberships is None:
        return Standing(rank, 0, 0, rank <= query.page_size)
    places = []
    for number, group in enumerate(form_groups(ranking, memberships), start=1):
        members = [member.fused.id for member in group.members]
        if document_id in members:
            place = members.index(document_id) + 1
            is_shown = number <= query.page_size and place <= query.group_size
            places.append(Standing(rank, number, place, is_shown))
    return min(places, key=lambda each: (not each.on_page, each.group))
