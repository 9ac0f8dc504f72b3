"""Sheds load before any work is done for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Overloaded

RETRY_AFTER_SECONDS = 0.1


class Admission:
    """A fixed number of permits; whoever finds none is sent away at once."""

    def __init__(self, permits: int) -> None:
        self._permits = permits
        self._taken = 0

    @contextmanager
    def permit(self) -> Iterator[None]:
        """Holds one permit; raises Overloaded if there is none."""
        if self._taken >= self._permits:
            raise Overloaded(
                f"{self._taken} requests are being worked on",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def __repr__(self) -> str:
        return f"<Admission {self._taken} of {self._permits} permits taken>"
