"""Which segments are merged."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from core.manifest import IndexEntry, SegmentEntry
from indexer.merge import (
    MergePolicy,
    all_rows,
    choose,
    choose_quick,
    choose_slow,
    dead_rows,
    level_of,
    live_passages,
    live_rows,
)

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


SEALING = MergePolicy(
    fanout=4, floor_rows=100, quick_rows=800, most_rows=40_000, seal_rows=1_000, sealed_fanout=3
)


def sealed(name: str, documents: int, *, dead: int = 0) -> SegmentEntry:
    return replace(segment(name, documents, dead=dead), index=IndexEntry("ivf_pq", 8, 0.98, 200))


def test_fresh_segments_are_sealed_once_they_hold_enough_together() -> None:
    fresh = [segment("a", 400), segment("b", 300), segment("c", 299)]

    assert choose_slow([*fresh, sealed("old", 5_000)], SEALING) == ()
    assert choose_slow([*fresh, segment("d", 1)], SEALING) == ("d", "c", "b", "a")


def test_a_quick_merge_neither_seals_nor_touches_what_is_sealed() -> None:
    large = [segment(name, 300) for name in "abcd"]

    assert choose_quick([segment(name, 1) for name in "abcd"], SEALING) == tuple("abcd")
    # Two of 600 rows do not fit into 800.
    assert choose_quick(large, SEALING) == ()
    assert choose_quick([sealed(name, 50) for name in "abcd"], SEALING) == ()
    small = replace(SEALING, seal_rows=100)
    assert choose_quick([segment(name, 40) for name in "abcd"], small) == ()


def test_sealed_segments_have_levels_of_their_own() -> None:
    first = [sealed(name, 1_500) for name in "ab"]

    assert choose_slow([*first, sealed("big", 6_000)], SEALING) == ()
    assert choose_slow([*first, sealed("big", 6_000), sealed("c", 1_900)], SEALING) == tuple("abc")


def test_a_sealed_segment_that_is_mostly_dead_is_rewritten_alone() -> None:
    assert choose_slow([sealed("a", 2_000, dead=1_001), sealed("b", 2_000)], SEALING) == ("a",)
    assert choose_slow([sealed("a", 2_000, dead=999), sealed("b", 2_000)], SEALING) == ()


def test_nothing_is_sealed_where_every_vector_is_to_be_searched() -> None:
    never = replace(SEALING, seal_rows=0)
    segments = [segment(name, 2_000) for name in "abc"]

    assert choose_slow(segments, never) == ()
    assert choose_slow([*segments, segment("d", 2_000)], never) == tuple("abcd")


@given(st.lists(st.integers(1, 700), max_size=100))
def test_sealing_keeps_segments_few_and_what_is_searched_one_by_one_small(
    sizes: list[int],
) -> None:
    segments: list[SegmentEntry] = []
    for number, size in enumerate(sizes):
        segments.append(segment(f"new-{number}", size))
        for steps in range(20):
            quick = choose_quick(segments, SEALING)
            chosen = quick or choose_slow(segments, SEALING)
            if not chosen:
                break
            old = [each for each in segments if each.id in chosen]
            made = merged(old, chosen, f"merged-{number}-{steps}")[0]
            if live_passages(made) >= SEALING.seal_rows:
                assert not quick
                made = replace(made, index=IndexEntry("ivf_pq", 8, 0.98, 200))
            segments = [each for each in segments if each.id not in chosen] + [made]
        else:
            raise AssertionError("merging does not end")
    fresh = [each for each in segments if each.index is None]
    assert sum(live_passages(each) for each in fresh) < SEALING.seal_rows
    assert sum(live_passages(each) for each in segments) == sum(sizes)
    # 70,000 rows at most: levels up to 2,000, 6,000, 18,000, 54,000 and above, 2 of each.
    assert len(segments) - len(fresh) <= 2 * 5 + 70_000 // 20_000
