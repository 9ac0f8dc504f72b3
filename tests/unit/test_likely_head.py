"""Which documents a shard returns unasked: numbers by hand."""

from shard.likely_head import likely_head


def test_both_legs_count() -> None:
    others = {"c": 1 / (60 + 1), "x": 1 / (60 + 2)}

    head = likely_head(["a", "b", "c"], others, 2, weight=1, k=60)

    # c: 1/61 + 1/63, a: 1/61, x and b: 1/62
    assert head == ["c", "a"]


def test_the_weight_is_that_of_the_dense_leg() -> None:
    assert likely_head(["a"], {"x": 1 / 61}, 1, weight=0.5, k=60) == ["x"]


def test_no_more_than_there_is() -> None:
    assert sorted(likely_head(["a"], {"x": 0.0}, 10, weight=1, k=60)) == ["a", "x"]
