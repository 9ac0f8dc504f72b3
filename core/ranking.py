"""Cutting a best-first list without tearing ties apart."""

from __future__ import annotations

from collections.abc import Sequence


def count_with_ties(scores: Sequence[float], limit: int) -> int:
    """How many of the best-first `scores` are at least as good as number `limit`."""
    kept = min(limit, len(scores))
    while 0 < kept < len(scores) and scores[kept] == scores[limit - 1]:
        kept += 1
    return kept
