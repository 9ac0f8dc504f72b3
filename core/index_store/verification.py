"""Checks a whole index store: everything that is published can be read, and is what it was.

Each collection's entry, CURRENT, the manifest it names, and every file of that one are read anew;
then segments and lexical index are opened and counted. What the document store has committed can
be given: a CURRENT that was turned back to an older generation shows only there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.analysis import analyzer_of
from core.errors import CorruptFile, IndexStoreUnavailable, TriremeError
from core.index_store.engine import CURRENT_FILE, DELETED_FILE
from core.index_store.shard_store import ShardStore
from core.index_store.store import CollectionEntry, IndexStore
from core.lexical import LexicalReader
from core.manifest import Manifest

Committed = Mapping[tuple[str, int], int]
"""Uid and shard to the generation that is committed, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was published; `shard` is -1 if it is not one shard's."""

    collection: str
    shard: int
    problem: str


@dataclass(slots=True)
class Verified:
    """What was looked at, and what was wrong with it."""

    collections: int = 0
    shards: int = 0
    files: int = 0
    bytes: int = 0
    damages: list[Damage] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    @contextmanager
    def noting(self, collection: str, shard: int = -1) -> Iterator[None]:
        """Turns what is damaged inside the block into data; the rest of the block is left out."""
        try:
            yield
        except IndexStoreUnavailable:
            raise
        except TriremeError as error:
            self.damages.append(Damage(collection, shard, str(error)))


def verify(
    store: IndexStore, only: Collection[str] = (), committed: Committed | None = None
) -> Verified:
    """Checks the collections of these names, all if there are none; damage is data, never raised.

    Raises IndexStoreUnavailable if the store does not answer.
    """
    report = Verified()
    with report.noting("(all)"):
        _check_lists(store, committed or {}, report)
        for uid in sorted(store.engine.uids(())):
            with report.noting(uid):
                entry = store.entry(uid)
                if not only or entry.name in only:
                    _verify_collection(store, entry, committed or {}, report)
    return report


def _check_lists(store: IndexStore, committed: Committed, report: Verified) -> None:
    """The store tells its format, and every collection is known that has something published."""
    if not store.check_format() and store.engine.uids(()):
        report.damages.append(Damage("(all)", -1, "what tells the store's format is missing"))
    paths = [each.key.split("/") for each in store.engine.listed("")]
    deleted = {path[0] for path in paths if path[-1] == DELETED_FILE}
    published = {path[0] for path in paths if path[-1] == CURRENT_FILE and path[0][0] != "."}
    published |= {uid for uid, _ in committed}
    for uid in sorted(published - deleted - store.engine.uids(())):
        report.damages.append(Damage(uid, -1, "what tells that the collection is there is missing"))


def _verify_collection(
    store: IndexStore, entry: CollectionEntry, committed: Committed, report: Verified
) -> None:
    report.collections += 1
    if entry.shard_count < 1:
        raise CorruptFile(f"collection {entry.name!r} has {entry.shard_count} shards")
    for number in range(entry.shard_count):
        with report.noting(entry.name, number):
            _verify_shard(store.shard(entry.uid, number), entry, number, committed, report)


def _verify_shard(
    shard: ShardStore, entry: CollectionEntry, number: int, committed: Committed, report: Verified
) -> None:
    report.shards += 1
    manifest = shard.read_current()
    if manifest is None:
        raise CorruptFile("nothing is published, or CURRENT is missing")
    _check_place(manifest, entry, number)
    if manifest.generation < committed.get((entry.uid, number), 0):
        raise CorruptFile(
            f"CURRENT names generation {manifest.generation}, "
            f"{committed[entry.uid, number]} is committed"
        )
    damaged = len(report.damages)
    for file in manifest.files():
        report.files += 1
        report.bytes += file.size
        with report.noting(entry.name, number):
            shard.check(file)
    if len(report.damages) == damaged:
        _check_counts(shard, manifest)


def _check_place(manifest: Manifest, entry: CollectionEntry, number: int) -> None:
    found = manifest.uid, manifest.collection, manifest.shard, manifest.shard_count
    if found != (entry.uid, entry.name, number, entry.shard_count):
        raise CorruptFile(f"CURRENT names the manifest of {found}, this is shard {number} {entry}")


def _check_counts(shard: ShardStore, manifest: Manifest) -> None:
    """Opens what was found sound, as a shard does; raises CorruptFile unless the counts fit."""
    segments = [shard.open_segment(segment) for segment in manifest.segments]
    # Tantivy watches the directory, and its thread may put a lock file there at the last moment.
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as directory:
        shard.materialise(manifest.lexical, Path(directory))
        analyzer = analyzer_of(manifest.lexical_settings)
        lexical = LexicalReader.open(Path(directory), analyzer).document_count
    found = (
        sum(len(segment.live_rows) for segment in segments),
        sum(segment.live_passages for segment in segments),
        lexical,
    )
    if found != (manifest.documents, manifest.passages, manifest.documents):
        raise CorruptFile(
            f"{found[0]} documents, {found[1]} passages, {found[2]} in the lexical index; "
            f"the manifest says {manifest.documents} and {manifest.passages}"
        )
