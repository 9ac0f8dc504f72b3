"""How much a caller may use: buckets that fill with time. Pure but for the clock that is passed in.

Requests are paid for before they begin. Model tokens are paid for afterwards, when it is known how
many a model read; until the debt is paid back, further requests are refused.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import QuotaExceeded

MOST_METERS = 10_000
# What many small sums may be off by.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """Per minute, where 0 means no limit; a minute's worth may be used at once."""

    requests_per_minute: float = 0.0
    model_tokens_per_minute: float = 0.0


NO_LIMITS = Limits()


class Bucket:
    """Holds a minute's worth when full; what is taken may exceed what is there."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._capacity = per_minute
        self._level = per_minute
        self._filled = now

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until it holds `amount`, or is full if that is less; 0 if it does."""
        missing = min(amount, self._capacity) - self._fill(now)
        return missing * 60 / self._capacity if missing > _ROUNDING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Takes it out, also below zero."""
        self._level = self._fill(now) - amount

    def _fill(self, now: float) -> float:
        gained = (now - self._filled) * self._capacity / 60
        self._level, self._filled = min(self._capacity, self._level + gained), now
        return self._level


class Meter:
    """What one caller has used."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        now = clock()
        self._requests = _bucket(limits.requests_per_minute, now)
        self._tokens = _bucket(limits.model_tokens_per_minute, now)

    def request(self) -> None:
        """Pays for one request; raises QuotaExceeded if there is nothing to pay with."""
        seconds = self.seconds_until_request()
        if seconds > 0:
            # Whole milliseconds, rounded up: who comes back then is let in.
            raise QuotaExceeded(
                f"this caller has used its {self._used_up()}",
                retry_after_seconds=math.ceil(seconds * 1000) / 1000,
            )
        if self._requests is not None:
            self._requests.take(1, self._clock())

    def further_requests(self, count: int) -> None:
        """Pays for what a request turned out to hold beyond one, if need be as a debt."""
        if self._requests is not None and count > 0:
            self._requests.take(count, self._clock())

    def seconds_until_request(self) -> float:
        """How long until the next request would be accepted; 0: it would be now."""
        now = self._clock()
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.seconds_until(1, now))
        if self._tokens is not None:
            waits.append(self._tokens.seconds_until(1, now))
        return max(waits)

    def model_tokens(self, count: int) -> None:
        """Pays for what a model has read."""
        if self._tokens is not None:
            self._tokens.take(count, self._clock())

    @property
    def counts_tokens(self) -> bool:
        """Whether it needs to know what models read."""
        return self._tokens is not None

    def _used_up(self) -> str:
        limits = self.limits
        if self._tokens is not None and self._tokens.seconds_until(1, self._clock()) > 0:
            return f"{limits.model_tokens_per_minute:g} model tokens per minute"
        return f"{limits.requests_per_minute:g} requests per minute"


class Meters:
    """One meter per name, kept while credentials change; the longest unused are forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._meters: OrderedDict[str, Meter] = OrderedDict()

    def of(self, name: str, limits: Limits) -> Meter:
        """The meter of a caller; a new one if its limits have changed."""
        if limits == NO_LIMITS:
            return UNLIMITED
        found = self._meters.get(name)
        if found is None or found.limits != limits:
            found = self._meters[name] = Meter(limits, self._clock)
        self._meters.move_to_end(name)
        while len(self._meters) > MOST_METERS:
            self._meters.popitem(last=False)
        return found


def _bucket(per_minute: float, now: float) -> Bucket | None:
    return Bucket(per_minute, now) if per_minute > 0 else None


UNLIMITED = Meter(NO_LIMITS)
