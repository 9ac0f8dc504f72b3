"""Which segments to merge next: a log-structured policy, pure.

Fresh segments fall into levels by their size; a level that is full is merged into one segment of
the next, between publications, as long as that is quick. What has outgrown this waits for a merge
beside publication: fresh segments that hold enough vectors together become one sealed segment, and
sealed ones have levels of their own. So a document is rewritten about once per level, and there are
only a few segments per level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.manifest import SegmentEntry


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """`fanout` segments of a level become one; up to `floor_rows` rows all count as level 0.

    A segment is rewritten alone once more than `dead_share` of it is dead. Rows are documents and
    passages together. A merge of up to `quick_rows` holds up a publication, none has more than
    `most_rows`. Fresh segments are sealed once they have `seal_rows` live passages, 0 is never;
    `sealed_fanout` sealed ones of a level become one.
    """

    fanout: int = 8
    floor_rows: int = 512
    quick_rows: int = 32_768
    most_rows: int = 8_000_000
    dead_share: float = 0.5
    seal_rows: int = 0
    sealed_fanout: int = 4


Choose = Callable[[Sequence[SegmentEntry], MergePolicy], tuple[str, ...]]
"""The ids of the segments to merge next, none if there is nothing to do."""


def choose(segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
    """The ids of the segments to merge into one now, in order; empty if none.

    One id alone means: rewrite that segment without its dead rows.
    """
    wasteful = _wasteful(segments, policy)
    if wasteful:
        return (min(wasteful, key=live_rows).id,)
    levels: dict[int, list[SegmentEntry]] = {}
    for segment in segments:
        if segment.index is None:
            levels.setdefault(level_of(live_rows(segment), policy), []).append(segment)
    for level in sorted(levels):
        chosen = fitting(levels[level], policy)
        if len(levels[level]) >= policy.fanout and len(chosen) > 1:
            return tuple(segment.id for segment in chosen)
    return ()


def choose_quick(segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
    """What `choose` says of merges that may hold up a publication; none of them seals."""
    most = min(policy.quick_rows, policy.seal_rows or policy.quick_rows)
    return choose(segments, replace(policy, most_rows=most))


def choose_slow(segments: Sequence[SegmentEntry], policy: MergePolicy) -> tuple[str, ...]:
    """What to merge or seal beside publication, as `choose` says it."""
    wasteful = _wasteful(segments, policy)
    if wasteful:
        return (min(wasteful, key=live_rows).id,)
    if not policy.seal_rows:
        return choose(segments, policy)
    fresh = fitting([each for each in segments if each.index is None], policy)
    if sum(live_passages(each) for each in fresh) >= policy.seal_rows:
        return tuple(segment.id for segment in fresh)
    levels: dict[int, list[SegmentEntry]] = {}
    sizes = replace(policy, floor_rows=policy.seal_rows * 2, fanout=policy.sealed_fanout)
    for segment in segments:
        if segment.index is not None:
            levels.setdefault(level_of(live_passages(segment), sizes), []).append(segment)
    for level in sorted(levels):
        chosen = fitting(levels[level], policy)
        if len(levels[level]) >= policy.sealed_fanout and len(chosen) > 1:
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


def live_passages(segment: SegmentEntry) -> int:
    """Vectors that a merge would copy."""
    return segment.passages - segment.dead_passages


def fitting(segments: Sequence[SegmentEntry], policy: MergePolicy) -> list[SegmentEntry]:
    """The smallest segments that fit into one merge together."""
    chosen: list[SegmentEntry] = []
    rows = 0
    for segment in sorted(segments, key=live_rows):
        rows += live_rows(segment)
        if rows > policy.most_rows:
            break
        chosen.append(segment)
    return chosen


def _wasteful(segments: Sequence[SegmentEntry], policy: MergePolicy) -> list[SegmentEntry]:
    return [
        segment
        for segment in segments
        if dead_rows(segment) > policy.dead_share * all_rows(segment)
        and live_rows(segment) <= policy.most_rows
    ]
