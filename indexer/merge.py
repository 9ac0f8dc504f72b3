"""Which segments to merge next: a log-structured policy, pure.

Segments fall into levels by their size; a level that is full is merged into one segment of the
next. So a document is rewritten about once per level, and there are only a few segments per level.
A merge never exceeds `most_rows`, which bounds how long it can hold up a publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.manifest import SegmentEntry


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """`fanout` segments of a level become one; up to `floor_rows` rows all count as level 0.

    A segment is rewritten alone once more than `dead_share` of it is dead. Rows are documents and
    passages together.
    """

    fanout: int = 8
    floor_rows: int = 512
    most_rows: int = 65_536
    dead_share: float = 0.5


def choose(segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
    """The ids of the segments to merge into one now, in order; empty if none.

    One id alone means: rewrite that segment without its dead rows.
    """
    wasteful = [s for s in segments if dead_rows(s) > policy.dead_share * all_rows(s)]
    if wasteful:
        return (min(wasteful, key=live_rows).id,)
    levels: dict[int, list[SegmentEntry]] = {}
    for segment in segments:
        levels.setdefault(level_of(live_rows(segment), policy), []).append(segment)
    for level in sorted(levels):
        chosen = _fitting(levels[level], policy)
        if len(levels[level]) >= policy.fanout and len(chosen) > 1:
            return tuple(segment.id for segment in chosen)
    return ()


def level_of(rows: int, policy: MergePolicy) -> int:
    """0 up to `floor_rows`, then one more for every factor of `fanout`."""
    level = 0
    limit = policy.floor_rows
    while rows > limit:
        level += 1
        limit *= policy.fanout
    return level


def all_rows(segment: SegmentEntry) -> int:
    """Documents and passages, dead ones included."""
    return segment.documents + segment.passages


def dead_rows(segment: SegmentEntry) -> int:
    """Documents and passages that a merge would drop."""
    return segment.dead_documents + segment.dead_passages


def live_rows(segment: SegmentEntry) -> int:
    """Documents and passages that a merge would copy."""
    return all_rows(segment) - dead_rows(segment)


def _fitting(segments: Sequence[SegmentEntry], policy: MergePolicy) -> list[SegmentEntry]:
    """The smallest segments that fit into one merge together."""
    chosen: list[SegmentEntry] = []
    rows = 0
    for segment in sorted(segments, key=live_rows):
        rows += live_rows(segment)
        if rows > policy.most_rows:
            break
        chosen.append(segment)
    return chosen
