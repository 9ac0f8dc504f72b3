"""What a gateway has to do for a request, as far as admission needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.lanes import Lane


@dataclass(frozen=True, slots=True)
class Work:
    """`units` of work of one `kind`, whose times can be compared; they are not if that is empty."""

    kind: str = ""
    units: float = 1.0
    lane: Lane = Lane.INTERACTIVE
