"""The open generations of one collection, and when to try again. No I/O; time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from core.errors import NotFound
from core.index_store import CollectionEntry
from shard.archive import Archive, Archived
from shard.snapshot import Snapshot

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0

Mark = bytes | None
"""Changes whenever another generation becomes current; None while nothing is published."""


@dataclass(slots=True)
class Shelf:
    """`newest` is searched; `replaced` are kept for queries under way, each until its time.

    `archive` keeps the documents of replaced ones longer, for later pages.
    """

    entry: CollectionEntry
    newest: Snapshot | None = None
    replaced: list[tuple[float, Snapshot]] = field(default_factory=list)
    archive: Archive = field(default_factory=Archive)
    seen: Mark = None
    failures: int = 0
    retry_at: float = 0.0

    def wants(self, mark: Mark, now: float) -> bool:
        """Whether CURRENT is new, or was refused and is to be tried again."""
        is_due = self.failures > 0 and now >= self.retry_at
        return mark is not None and (mark != self.seen or is_due)

    def refused(self, mark: Mark, now: float) -> float:
        """Notes that CURRENT cannot be opened; returns the seconds until the next try."""
        self.failures = self.failures + 1 if mark == self.seen else 1
        self.seen = mark
        delay = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (self.failures - 1))
        self.retry_at = now + delay
        return delay

    def adopted(self, mark: Mark) -> None:
        """Notes that what CURRENT names is open, or older than what is open."""
        self.seen, self.failures = mark, 0

    def swap(self, snapshot: Snapshot, drop_at: float, forget_at: float) -> None:
        """Puts a generation in front; the one before stays until `drop_at`.

        Its documents can be fetched until `forget_at`.
        """
        if self.newest is not None:
            self.replaced.insert(0, (drop_at, self.newest))
            self.archive.add(self.newest, forget_at)
        self.newest = snapshot

    def expired(self, now: float, at_most: int) -> list[Snapshot]:
        """Takes out replaced generations: those whose time has come, the oldest above `at_most`."""
        kept = [item for item in self.replaced if item[0] > now][:at_most]
        gone = [snapshot for _, snapshot in self.replaced[len(kept) :]]
        self.replaced = kept
        return gone

    def snapshots(self) -> list[Snapshot]:
        """Every open generation, the newest first."""
        newest = [self.newest] if self.newest is not None else []
        return newest + [snapshot for _, snapshot in self.replaced]

    def find_documents(self, generation: int) -> Snapshot | Archived | None:
        """The generation of this number, as long as its documents can be fetched."""
        if self.newest is not None and self.newest.manifest.generation == generation:
            return self.newest
        return self.archive.find(generation)

    def find(self, generation: int) -> Snapshot | None:
        """The open generation of this number, else the newest."""
        for snapshot in self.snapshots():
            if snapshot.manifest.generation == generation:
                return snapshot
        return self.newest


def close_all(snapshots: Iterable[Snapshot]) -> None:
    """Closes generations that nobody asks for any more."""
    for snapshot in snapshots:
        snapshot.close()


def not_served(collection: str) -> NotFound:
    """The failure of a call for a collection that has no part here."""
    return NotFound(
        "COLLECTION_NOT_FOUND",
        f"collection {collection!r} is not served here",
        field="collection",
        remedy="create it, or try again if it is new",
    )
