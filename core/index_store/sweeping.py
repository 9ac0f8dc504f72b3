"""Clears a whole index store of what nothing needs, by reachability and age.

What goes, if it is older than `minimum_age_seconds`: files that none of the last `keep` manifests
of a shard names, and those manifests; what is left of removed collections; files of snapshots
without a manifest; what a crash left behind. A rebuild keeps its files unpublished as long as it
runs, so the age must be longer than that: the default is a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from core.index_store.engine import COLLECTION_FILE, CURRENT_FILE, DELETED_FILE, Stored
from core.index_store.garbage import Cleared, sort_out
from core.index_store.store import IndexStore

DAY_SECONDS = 24 * 3600.0

# Working copies and caches lie beside a store in a directory, and are not part of it.
_OF_A_COLLECTION = re.compile(
    rf"[^./][^/]*/(?:{COLLECTION_FILE}|{DELETED_FILE}|\d+/(?:{CURRENT_FILE}|files/.*|manifests/.*))"
)
_SNAPSHOT_FILE = re.compile(r"(snapshots/[^/]+)/files/.*")
_LEFT_BEHIND = re.compile(r"probe/.*|(?:[^./][^/]*/){0,2}\.[^/]*\.tmp")


def sweep(
    store: IndexStore,
    *,
    keep: int = 3,
    minimum_age_seconds: float = DAY_SECONDS,
    dry_run: bool = False,
) -> Cleared:
    """Clears the store; with `dry_run` only says what would go.

    Raises CorruptFile where a collection or CURRENT cannot be read, before anything of it is gone.
    """
    cleared = Cleared()
    live = {entry.uid: entry for entry in store.collections()}
    for entry in live.values():
        for number in range(entry.shard_count):
            cleared += store.shard(entry.uid, number).collect_garbage(
                keep=keep, minimum_age_seconds=minimum_age_seconds, dry_run=dry_run
            )
    found = store.engine.listed("")
    rest = sort_out(_orphans(found, live), (), minimum_age_seconds)
    if not dry_run:
        store.engine.remove(rest.keys)
    return cleared + rest


def _orphans(found: Iterable[Stored], live: Iterable[str]) -> Iterator[Stored]:
    """What belongs to no collection and to no snapshot that is there."""
    known = set(live)
    objects = list(found)
    keys = {each.key for each in objects}
    for each in objects:
        snapshot = _SNAPSHOT_FILE.fullmatch(each.key)
        if _OF_A_COLLECTION.fullmatch(each.key):
            is_orphan = each.key.partition("/")[0] not in known
        elif snapshot is not None:
            is_orphan = f"{snapshot.group(1)}/manifest.json" not in keys
        else:
            is_orphan = _LEFT_BEHIND.fullmatch(each.key) is not None
        if is_orphan:
            yield each
