"""How urgent a request is, as its caller says in metadata."""

from __future__ import annotations

from enum import Enum
from typing import Any

from core.errors import InvalidInput

PRIORITY_KEY = "trireme-priority"


class Lane(Enum):
    """Who waits for the answer: a person, a job, or nobody in particular."""

    INTERACTIVE = "interactive"
    BATCH = "batch"
    BACKFILL = "backfill"


# Of work that waits, each lane gets its part of 73: the first always moves, the last never stands.
LANE_WEIGHTS = {Lane.INTERACTIVE: 64.0, Lane.BATCH: 8.0, Lane.BACKFILL: 1.0}


def lane_of(context: Any, default: Lane = Lane.INTERACTIVE) -> Lane:
    """The lane of a call; raises InvalidInput if its metadata names none that there is."""
    for key, value in context.invocation_metadata() or ():
        if key == PRIORITY_KEY:
            return _lane(value)
    return default


def _lane(value: str | bytes) -> Lane:
    try:
        return Lane(value)
    except ValueError as error:
        raise InvalidInput(
            "MALFORMED",
            f"{value!r} is not a priority",
            field=PRIORITY_KEY,
            remedy=f"say {', '.join(lane.value for lane in Lane)}, or nothing",
        ) from error
