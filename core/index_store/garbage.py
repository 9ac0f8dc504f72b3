"""What may be removed: nothing that is reachable, and nothing that is young. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from core.index_store.engine import Stored


@dataclass(frozen=True, slots=True)
class Cleared:
    """What is no longer needed, and how much stays."""

    keys: tuple[str, ...] = ()
    removed_bytes: int = 0
    kept_files: int = 0
    kept_bytes: int = 0

    def __add__(self, other: Cleared) -> Cleared:
        return Cleared(
            self.keys + other.keys,
            self.removed_bytes + other.removed_bytes,
            self.kept_files + other.kept_files,
            self.kept_bytes + other.kept_bytes,
        )

    def __repr__(self) -> str:
        return (
            f"<Cleared {len(self.keys)} files of {self.removed_bytes:,} bytes, "
            f"{self.kept_files} of {self.kept_bytes:,} stay>"
        )


def sort_out(
    found: Iterable[Stored], needed: Collection[str], minimum_age_seconds: float
) -> Cleared:
    """Of what was `found`, all goes that is not `needed` and older than that."""
    removed: list[Stored] = []
    kept: list[Stored] = []
    for each in found:
        is_garbage = each.key not in needed and each.age_seconds > minimum_age_seconds
        (removed if is_garbage else kept).append(each)
    return Cleared(
        tuple(each.key for each in removed),
        sum(each.size for each in removed),
        len(kept),
        sum(each.size for each in kept),
    )
