"""Which documents a shard returns unasked: numbers by hand."""

import random

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


def test_nothing_is_overlooked() -> None:
    chance = random.Random(7)
    for _ in range(200):
        dense = chance.sample([f"d{number}" for number in range(60)], 40)
        others = {f"d{number}": chance.random() / 61 for number in chance.sample(range(90), 20)}
        weight = chance.choice([0.0, 0.5, 1.0, 2.0])
        scores = dict(others)
        for rank, id in enumerate(dense, start=1):
            scores[id] = scores.get(id, 0.0) + weight / (60 + rank)
        best = sorted(scores, key=lambda id: -scores[id])

        for limit in (1, 5, 39, 100):
            assert likely_head(dense, others, limit, weight=weight, k=60) == best[:limit]
