"""Ranked documents become groups of equal values."""

from datetime import UTC, datetime

import pytest

from gateway.fusion import Blended, Fused
from gateway.groups import GroupValue, count_full, form_groups, groups_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def ranked(*ids: str) -> list[Blended]:
    return [Blended(Fused(id, 0, 1 / rank, rank, {}), 1 / rank) for rank, id in enumerate(ids, 1)]


def formed(values: dict[str, GroupValue]) -> list[tuple[GroupValue, list[str]]]:
    """The groups of documents that are ranked in the order in which they are given."""
    groups = form_groups(ranked(*values), {id: groups_of(value) for id, value in values.items()})
    return [(group.value, [member.fused.id for member in group.members]) for group in groups]


def test_groups_stand_by_their_best_member_and_keep_the_order_within() -> None:
    assert formed({"a": "x", "b": "y", "c": "x", "d": "y", "e": "z"}) == [
        ("x", ["a", "c"]),
        ("y", ["b", "d"]),
        ("z", ["e"]),
    ]


def test_documents_without_the_attribute_are_one_group() -> None:
    assert formed({"a": None, "b": "x", "c": None}) == [(None, ["a", "c"]), ("x", ["b"])]


def test_a_document_with_a_list_is_in_the_group_of_each_string() -> None:
    assert formed({"a": ("x", "y", "x"), "b": "y", "c": ()}) == [
        ("x", ["a"]),
        ("y", ["a", "b"]),
        (None, ["c"]),
    ]


@pytest.mark.parametrize(
    ("one", "other"), [(1.0, True), (0.0, False), ("1", 1.0), ("", None), (NOON, str(NOON))]
)
def test_values_of_different_types_are_different_groups(one: GroupValue, other: GroupValue) -> None:
    assert formed({"a": one, "b": other}) == [(one, ["a"]), (other, ["b"])]


def test_equal_numbers_and_moments_are_one_group() -> None:
    assert formed({"a": 0.0, "b": -0.0}) == [(0.0, ["a", "b"])]
    assert formed({"a": NOON, "b": datetime(2026, 1, 31, 12, tzinfo=UTC)}) == [(NOON, ["a", "b"])]


def test_full_groups_have_as_many_members_as_are_wanted() -> None:
    memberships: dict[str, list[GroupValue]] = {
        "a": ["x"],
        "b": ["x", "y"],
        "c": [1.0],
        "d": [True],
    }

    assert [count_full(memberships, size) for size in (1, 2, 3)] == [4, 1, 0]
