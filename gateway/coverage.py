"""How much of a collection was asked with success: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from core.errors import InsufficientCoverage
from gateway.scatter import Leg


def coverage(found: Mapping[str, Leg], wanted: Collection[str], shards: int) -> float:
    """Of all shards times all `wanted` legs, the share that answered, 0 to 1."""
    answered = sum(len(leg.answered) for name, leg in found.items() if name in wanted)
    return answered / (shards * len(wanted))


def check_coverage(reached: float, least: float) -> None:
    """Raises InsufficientCoverage if the answer would be of less than the caller asks for."""
    if reached < least:
        raise InsufficientCoverage(
            f"{reached:.3g} of the collection answered, {least:.3g} was asked for",
            field="min_coverage",
            remedy="try again shortly, or ask for less",
        )
