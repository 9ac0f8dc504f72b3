"""Moments as the document store keeps them: microseconds since 1970, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_START = datetime(1970, 1, 1, tzinfo=UTC)


def now_micros() -> int:
    """The present moment."""
    return time.time_ns() // 1000


def moment(micros: int) -> datetime:
    """A kept moment as an aware datetime."""
    return _START + timedelta(microseconds=micros)
