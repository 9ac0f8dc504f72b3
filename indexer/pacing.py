"""How long changes gather before they are indexed, so that indexing leaves time for searches.

What a generation costs hardly depends on how many documents it adds: where they come without end,
fewer and larger ones are cheaper, and nobody sees them much later. Pure; time is an argument.
"""

from __future__ import annotations

import math

# A pause of twice as long as the work before it leaves two thirds of the time to searches.
PAUSE_FACTOR = 2.0
LONGEST_PAUSE_SECONDS = 0.5


class Pace:
    """Of one shard: told when work on a batch begins and ends; `seconds_left` until the next.

    Changes that come while a batch is built and published wait twice as long after it, so that this
    takes a third of the time at most. Whoever writes only what follows from searches never waits.
    """

    def __init__(self) -> None:
        self._begun = 0.0
        self._next_at = 0.0

    def begin(self, now: float) -> None:
        """A batch is about to be built and published."""
        self._begun, self._next_at = now, math.inf

    def end(self, now: float, *, waiting: bool) -> None:
        """It has been, or has failed; `waiting` tells whether there are changes by now."""
        pause = min(PAUSE_FACTOR * (now - self._begun), LONGEST_PAUSE_SECONDS) if waiting else 0.0
        self._next_at = now + pause

    def seconds_left(self, now: float) -> float:
        """How long changes are to gather: infinite during work, 0 if they may be read."""
        return max(0.0, self._next_at - now)
