"""How much of a collection answered, and whether that is enough."""

import grpc
import pytest

from core.errors import InsufficientCoverage
from gateway.coverage import check_coverage, coverage
from gateway.scatter import Leg
from trireme.shard.v1 import shard_pb2

BOTH = frozenset({"dense", "lexical"})


def leg(*shards: int) -> Leg:
    return Leg(answered={shard: shard_pb2.GenerationUsed(generation=1) for shard in shards})


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ({"dense": leg(0, 1, 2, 3), "lexical": leg(0, 1, 2, 3)}, 8 / 8),
        ({"dense": leg(0, 1, 2), "lexical": leg(0, 1, 2, 3)}, 7 / 8),
        ({"lexical": leg(0, 1, 2, 3)}, 4 / 8),  # the query could not be embedded
        ({}, 0 / 8),
    ],
)
def test_coverage_counts_shards_times_legs(found: dict[str, Leg], share: float) -> None:
    assert coverage(found, BOTH, shards=4) == share


def test_a_leg_that_was_not_wanted_does_not_count() -> None:
    assert coverage({"lexical": leg(0, 1)}, frozenset({"lexical"}), shards=2) == 1.0


def test_enough_is_enough() -> None:
    check_coverage(0.75, 0.75)
    check_coverage(0.0, 0.0)


def test_less_than_asked_for_is_unavailable() -> None:
    with pytest.raises(InsufficientCoverage, match=r"0\.5 of the collection answered, 0\.75") as it:
        check_coverage(0.5, 0.75)

    assert it.value.code is grpc.StatusCode.UNAVAILABLE
    assert it.value.field == "min_coverage"
