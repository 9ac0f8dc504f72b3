"""Which segments are merged."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from core.manifest import SegmentEntry
from indexer.merge import MergePolicy, all_rows, choose, dead_rows, level_of, live_rows

POLICY = MergePolicy(fanout=4, floor_rows=100, most_rows=10_000)


def segment(name: str, documents: int, *, dead: int = 0) -> SegmentEntry:
    """One passage per document."""
    return SegmentEntry(name, documents, documents, (), dead_documents=dead, dead_passages=dead)


def merged(segments: list[SegmentEntry], chosen: tuple[str, ...], name: str) -> list[SegmentEntry]:
    old = [s for s in segments if s.id in chosen]
    new = SegmentEntry(
        name,
        sum(s.documents - s.dead_documents for s in old),
        sum(s.passages - s.dead_passages for s in old),
        (),
    )
    return [s for s in segments if s.id not in chosen] + [new]


def test_few_segments_are_left_alone() -> None:
    assert choose([segment("a", 1), segment("b", 1), segment("c", 1)], POLICY) == ()


def test_a_full_level_becomes_one_segment() -> None:
    segments = [segment(name, 1) for name in "abcd"]

    assert choose(segments, POLICY) == ("a", "b", "c", "d")


def test_segments_of_other_levels_do_not_count() -> None:
    segments = [segment(name, 1) for name in "abc"] + [segment("big", 2_000)]

    assert choose(segments, POLICY) == ()


def test_a_segment_that_is_mostly_dead_is_rewritten_alone() -> None:
    segments = [segment("a", 4_000), segment("b", 4_000, dead=2_001)]

    assert choose(segments, POLICY) == ("b",)
    assert choose([replace(segments[1], dead_documents=2_000, dead_passages=2_000)], POLICY) == ()


def test_what_would_grow_too_large_is_not_merged() -> None:
    segments = [segment(name, 4_000) for name in "abcdef"]

    assert choose(segments, POLICY) == ()


def test_two_hundred_single_documents_leave_few_segments() -> None:
    segments: list[SegmentEntry] = []
    written = 0
    for number in range(200):
        segments.append(segment(f"new-{number}", 1))
        while chosen := choose(segments, MergePolicy()):
            segments = merged(segments, chosen, f"merged-{number}-{len(segments)}")
            written += all_rows(segments[-1])

    assert len(segments) < MergePolicy().fanout
    assert sum(s.documents for s in segments) == 200
    # Fan-out 8: a merge every 7 documents, each of at most 2 x 200 rows.
    assert written <= 200 / 7 * 400


@given(st.lists(st.integers(1, 3_000), max_size=120))
def test_merging_ends_and_keeps_every_level_below_its_fanout(sizes: list[int]) -> None:
    segments: list[SegmentEntry] = []
    for number, size in enumerate(sizes):
        segments.append(segment(f"new-{number}", size))
        steps = 0
        while chosen := choose(segments, POLICY):
            assert sum(live_rows(s) for s in segments if s.id in chosen) <= POLICY.most_rows
            segments = merged(segments, chosen, f"merged-{number}-{steps}")
            steps += 1
            assert steps < 20
    assert sum(s.documents for s in segments) == sum(sizes)
    small = [s for s in segments if all_rows(s) <= POLICY.floor_rows]
    assert len(small) < POLICY.fanout


def test_levels_grow_by_the_fanout() -> None:
    assert [level_of(rows, POLICY) for rows in (0, 100, 101, 400, 401, 1_600, 1_601)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
    ]


def test_dead_rows_count_documents_and_passages() -> None:
    assert dead_rows(segment("a", 10, dead=3)) == 3 + 3
