"""The deadline as a value: made once per request, handed down, never invented below."""

from __future__ import annotations

import time
from dataclasses import dataclass

from core.errors import OutOfTime


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, 0 if it has passed."""
        return max(0.0, self.at - time.monotonic())

    def earlier_by(self, seconds: float) -> Deadline:
        """A deadline that leaves `seconds` for whoever comes after."""
        return Deadline(self.at - seconds)

    def at_most(self, seconds: float) -> Deadline:
        """This deadline, or `seconds` from now if that is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def check(self, doing: str) -> None:
        """Raises OutOfTime, naming the step `doing`, if the deadline has passed."""
        if self.remaining() <= 0:
            raise OutOfTime(f"the deadline passed before {doing}", remedy="allow more time")

    def __repr__(self) -> str:
        return f"<Deadline in {(self.at - time.monotonic()) * 1000:.0f} ms>"
