"""How much may wait to be let in, and when who was refused is to come back.

Pure: time is an argument.
"""

from __future__ import annotations

# What waits may be so much of what is under way: enough that no permit lies idle between two
# arrivals, and a wait of half an answer.
QUEUE_SHARE = 0.5
# And so many requests in any case, so that a handful of callers who ask one thing after another
# meet no refusal. On the smallest machine they wait for what people see of a usual busy minute.
LEAST_WAITING = 6
# Who asks for many things at one moment is no overload, but a queue that stands for longer is one:
# so long so many may wait.
BURST_SECONDS = 0.1
MOST_WAITING = 64
# Neither holds in a flood: once more was refused than could be done in so long, and the last of it
# not longer ago, whoever waits only makes others wait.
FLOOD_SECONDS = 0.5
LEAST_RETRY_SECONDS = 0.1
MOST_RETRY_SECONDS = 5.0


class WaitingRoom:
    """What is known of a queue in front of `limit` units of work, `rate` of them done per second.

    The `rate` is 0 as long as it is not known.
    """

    def __init__(self, now: float) -> None:
        self._standing_since = now
        # What was refused and could not have been done by now.
        self._debt = 0.0
        self._debt_at = now

    def opened(self, now: float) -> None:
        """Somebody waits, and nobody did before."""
        self._standing_since = now

    def has_room(
        self, units: float, *, places: int, waiting: float, limit: float, rate: float, now: float
    ) -> bool:
        """Whether `units` more may wait beside `waiting` units in so many `places`."""
        if not places or waiting + units <= QUEUE_SHARE * limit:
            return True
        is_refusing = now - self._debt_at <= FLOOD_SECONDS
        if is_refusing and self._debt_seconds(rate, now) > FLOOD_SECONDS:
            return False
        is_burst = now - self._standing_since <= BURST_SECONDS
        return places < (MOST_WAITING if is_burst else LEAST_WAITING)

    def refused(self, units: float, rate: float, now: float) -> None:
        """Takes a refusal into account."""
        left = self._debt_seconds(rate, now) * rate
        self._debt = min(left + units, MOST_RETRY_SECONDS * rate)
        self._debt_at = now

    def retry_seconds(self, rate: float, now: float) -> float:
        """In how long to come back: who does so sooner does so in vain."""
        return round(max(LEAST_RETRY_SECONDS, self._debt_seconds(rate, now)), 3)

    def _debt_seconds(self, rate: float, now: float) -> float:
        if not rate:
            return 0.0
        return max(0.0, self._debt / rate - (now - self._debt_at))

    def __repr__(self) -> str:
        return f"<WaitingRoom, {self._debt:g} units refused that could not have been done>"
