"""Numbers that must lie within limits."""

from __future__ import annotations

import math
from typing import TypeVar

from core.errors import InvalidInput

Number = TypeVar("Number", int, float)


def within(value: Number, low: float, high: float, path: str) -> Number:
    """The value; raises InvalidInput (OUT_OF_RANGE) unless it is finite and `low` to `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidInput(
            "OUT_OF_RANGE", f"is {value:g}", field=path, remedy=f"give {low:,g} to {high:,g}"
        )
    return value


def count_within(value: int, high: int, path: str) -> int | None:
    """The value if it is 1 to `high`, None for 0, which says nothing; otherwise as `within`."""
    return within(value, 1, high, path) if value else None
