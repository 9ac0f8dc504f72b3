"""Whether a peer is worth waiting for. Pure: what happened is told, nothing is asked.

A peer that left several calls in a row unanswered, or was found dead, is taken for silent: nobody
waits for it any more until it has answered something, be it a late call or a probe.
"""

from __future__ import annotations

# One call may be unlucky; three in a row hardly ever are.
UNANSWERED_CALLS = 3
# Calls that are given up together, as those of one query are, count as one.
TOGETHER_SECONDS = 0.02
# A caller with less patience than this says nothing about the peer.
LEAST_PATIENCE_SECONDS = 0.03


class Circuit:
    """Counts the calls that were left unanswered since the last answer."""

    def __init__(self) -> None:
        self.silent = False
        self._unanswered = 0
        self._last = float("-inf")

    def answered(self) -> bool:
        """Notes an answer of any kind, a refusal included; whether it ends a silence."""
        was_silent, self.silent, self._unanswered = self.silent, False, 0
        return was_silent

    def unanswered(self, waited_seconds: float, now: float) -> bool:
        """Notes a call that is given up `now` after so long; whether a silence begins with it."""
        if waited_seconds < LEAST_PATIENCE_SECONDS or now - self._last < TOGETHER_SECONDS:
            return False
        self._last = now
        return self.overtaken()

    def overtaken(self) -> bool:
        """Notes a call that another peer, asked later, answered sooner; likewise."""
        self._unanswered += 1
        return self._unanswered >= UNANSWERED_CALLS and self.found_dead()

    def found_dead(self) -> bool:
        """Notes that the peer does not even say that it is there; likewise."""
        was_silent, self.silent = self.silent, True
        return not was_silent

    def __repr__(self) -> str:
        return f"<Circuit {'silent' if self.silent else 'closed'}, {self._unanswered} unanswered>"
