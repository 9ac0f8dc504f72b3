"""The index store: what the indexer publishes and the shards serve, as files below one directory.

    format.json                                 {"format": 1}
    <uid>/collection.json                       name, uid, shard count; before any manifest
    <uid>/DELETED                               the collection is gone; its tree is being removed
    <uid>/<shard>/files/<sha256>                immutable files, named by content
    <uid>/<shard>/manifests/<generation>-<epoch>.json   created, never overwritten
    <uid>/<shard>/CURRENT                       name of the newest published manifest

Publishing: `put_files`, `write_manifest`, then the compare-and-set in the document store, which is
the commit point, then `set_current`. CURRENT is a hint: a reader never goes to a lower (epoch,
generation).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from core import config, fsops
from core.errors import BadEnvironment, CorruptFile, Fenced, NewerFormat
from core.manifest import FileEntry, Manifest, SegmentEntry, sha256_of
from core.segment import Segment

FORMAT = 1
_FORMAT_FILE = "format.json"
_COLLECTION_FILE = "collection.json"
_DELETED_FILE = "DELETED"
_CURRENT_FILE = "CURRENT"
_MUTABLE = "meta.json"


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """A collection as the index store knows it."""

    name: str
    uid: str
    shard_count: int


class IndexStore:
    """All collections below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shards: dict[tuple[str, int], ShardStore] = {}
        self._entries: dict[str, CollectionEntry] = {}
        self._checked = False

    @classmethod
    def create(cls, root: Path) -> IndexStore:
        """Makes the store if it is not there, for whoever writes to it; raises NewerFormat."""
        fsops.make_directory(root)
        if not (root / _FORMAT_FILE).exists():
            fsops.replace_file(root / _FORMAT_FILE, json.dumps({"format": FORMAT}).encode())
        return cls.open(root)

    @classmethod
    def open(cls, root: Path) -> IndexStore:
        """Opens the store for reading; one that is not there yet has no collections.

        Raises NewerFormat if a newer version wrote it, CorruptFile if its format cannot be told.
        """
        store = cls(root)
        store.check_format()
        return store

    def check_format(self) -> None:
        """Raises NewerFormat or CorruptFile unless the store is absent or has this format."""
        path = self._root / _FORMAT_FILE
        try:
            found = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{path} does not tell the format") from error
        self._checked = True
        if found != FORMAT:
            raise NewerFormat(
                f"the index store has format {found}, this version reads {FORMAT}",
                field=str(self._root),
                remedy="run the newer version, or give another index directory",
            )

    def create_collection(self, entry: CollectionEntry) -> None:
        """Makes a collection known to readers; doing so again changes nothing."""
        directory = self._root / entry.uid
        fsops.make_directory(directory)
        fsops.replace_file(directory / _COLLECTION_FILE, json.dumps(asdict(entry)).encode())

    def collections(self) -> list[CollectionEntry]:
        """Collections that are not deleted, by uid.

        Raises CorruptFile if one cannot be read, NewerFormat if the store is not for this version.
        """
        if not self._checked:
            self.check_format()
        uids = sorted(self._uids())
        self._entries = {uid: self._entries.get(uid) or self._read_entry(uid) for uid in uids}
        return list(self._entries.values())

    def delete_collection(self, uid: str) -> None:
        """Removes a collection; one half removed stays deleted and can be removed again."""
        directory = self._root / uid
        if directory.is_dir():
            fsops.replace_file(directory / _DELETED_FILE, b"")
            fsops.remove_tree(directory)
        self._shards = {key: shard for key, shard in self._shards.items() if key[0] != uid}

    def shard(self, uid: str, shard: int) -> ShardStore:
        """One shard of one collection, which need not have been published yet."""
        key = uid, shard
        if key not in self._shards:
            self._shards[key] = ShardStore(self._root / uid / str(shard))
        return self._shards[key]

    def _uids(self) -> Iterator[str]:
        if not self._root.is_dir():
            return
        for child in self._root.iterdir():
            known = child.name in self._entries or (child / _COLLECTION_FILE).exists()
            if known and child.is_dir() and not (child / _DELETED_FILE).exists():
                yield child.name

    def _read_entry(self, uid: str) -> CollectionEntry:
        path = self._root / uid / _COLLECTION_FILE
        try:
            return config.build(CollectionEntry, json.loads(path.read_bytes()), str(path))
        except (OSError, ValueError, BadEnvironment) as error:
            raise CorruptFile(f"{path} cannot be read: {error}") from error


class ShardStore:
    """The published files of one shard. Verified files are not hashed again by the same object."""

    def __init__(self, root: Path) -> None:
        self._files = root / "files"
        self._manifests = root / "manifests"
        self._current = root / _CURRENT_FILE
        self._verified: set[str] = set()

    def path(self, entry: FileEntry) -> Path:
        """Where a file lies; it may be missing or corrupt until `verify` has passed."""
        return self._files / entry.sha256

    def put_files(
        self, paths: Iterable[Path], known: Iterable[FileEntry] = ()
    ) -> tuple[FileEntry, ...]:
        """Stores files durably under their content; the sources may be removed afterwards.

        A file that has the name and size of a `known` entry is taken to be that one: for files that
        never change under their name, such as Tantivy's.
        """
        fsops.make_directory(self._files)
        stored = {entry.name: entry for entry in known if entry.name != _MUTABLE}
        entries = tuple(self._put(path, stored.get(path.name)) for path in paths)
        fsops.sync_directory(self._files)
        return entries

    def put_bytes(self, name: str, data: bytes) -> FileEntry:
        """Stores a small file durably."""
        entry = FileEntry(name, len(data), sha256_of(data))
        fsops.make_directory(self._files)
        fsops.replace_file(self.path(entry), data)
        return entry

    def write_manifest(self, manifest: Manifest) -> str:
        """Creates the manifest's file and returns its SHA-256. Raises Fenced if its name is taken.

        Writing the same manifest again changes nothing.
        """
        fsops.make_directory(self._manifests)
        path, data = self._manifests / manifest.name, manifest.to_bytes()
        try:
            fsops.create_file(path, data)
        except FileExistsError as error:
            if path.read_bytes() != data:
                raise Fenced(f"another indexer has written {manifest.name}") from error
        return sha256_of(data)

    def set_current(self, manifest: Manifest) -> None:
        """Points readers at a manifest that is committed."""
        fsops.replace_file(self._current, manifest.name.encode())

    def current_mark(self) -> bytes | None:
        """Changes whenever another manifest becomes current; None while nothing is published."""
        try:
            return self._current.read_bytes()
        except OSError:
            return None

    def read_current(self) -> Manifest | None:
        """The newest published manifest, None while there is none.

        Raises CorruptFile if CURRENT or the manifest is damaged, NewerFormat.
        """
        try:
            name = self._current.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptFile(f"{self._current} cannot be read") from error
        return self._read_manifest(name)

    def manifests(self) -> list[Manifest]:
        """Every manifest that can be read, published or not, by ascending (epoch, generation)."""
        found = []
        for path in self._manifests.glob("[0-9]*.json"):
            try:
                found.append(self._read_manifest(path.name))
            except (CorruptFile, NewerFormat):
                continue
        return sorted(found, key=lambda manifest: manifest.order)

    def previous(self, manifest: Manifest) -> Manifest | None:
        """The manifest that was published before another, None if it is gone."""
        for path in self._manifests.glob(f"{manifest.generation - 1:012d}-*.json"):
            if sha256_of(path.read_bytes()) == manifest.previous:
                return self._read_manifest(path.name)
        return None

    def verify(self, entry: FileEntry) -> Path:
        """The path of a file that has the size and checksum it should have; else CorruptFile."""
        path = self.path(entry)
        if entry.sha256 in self._verified:
            return path
        try:
            size, checksum = path.stat().st_size, _sha256_of_file(path)
        except OSError as error:
            raise CorruptFile(f"{entry.name} ({path}) cannot be read: {error.strerror}") from error
        if (size, checksum) != (entry.size, entry.sha256):
            raise CorruptFile(f"{entry.name} ({path}) has {size} bytes and SHA-256 {checksum}")
        self._verified.add(entry.sha256)
        return path

    def materialise(self, entries: Iterable[FileEntry], directory: Path) -> None:
        """Gives verified files their own names in an existing directory, for their readers."""
        for entry in entries:
            fsops.link_file(self.verify(entry), directory / entry.name)

    def open_segment(self, entry: SegmentEntry) -> Segment:
        """Verifies and opens a segment; raises CorruptFile if it is not what the manifest says."""
        paths = {file.name: self.verify(file) for file in entry.files}
        segment = Segment.open(paths, self.verify(entry.dead) if entry.dead is not None else None)
        check_counts(segment, entry)
        return segment

    def collect_garbage(self, *, keep: int = 3, minimum_age_seconds: float = 600.0) -> int:
        """Removes files that no retained manifest needs and returns how many.

        Retained are the last `keep` manifests up to the current one and all above it. Younger files
        are left alone: they may belong to a generation that is being built.
        """
        current = self.read_current()
        if current is None:
            return 0
        manifests = self.manifests()
        older = [manifest for manifest in manifests if manifest.order <= current.order]
        retained = older[-keep:] + manifests[len(older) :]
        needed = {file.sha256 for manifest in retained for file in manifest.files()}
        names = {manifest.name for manifest in retained}
        oldest = time.time() - minimum_age_seconds
        removed = _remove(self._manifests, names, oldest) + _remove(self._files, needed, oldest)
        self._verified &= needed
        return removed

    def _put(self, path: Path, known: FileEntry | None) -> FileEntry:
        size = path.stat().st_size
        if known is not None and known.size == size and _has_size(self.path(known), size):
            return known
        entry = FileEntry(path.name, size, _sha256_of_file(path))
        target = self.path(entry)
        if target.exists() and _sha256_of_file(target) != entry.sha256:
            target.unlink()
        fsops.sync_file(path)
        fsops.link_file(path, target)
        return entry

    def _read_manifest(self, name: str) -> Manifest:
        path = self._manifests / name
        if path.parent != self._manifests or not name.endswith(".json"):
            raise CorruptFile(f"{self._current} does not name a manifest")
        try:
            manifest = Manifest.from_bytes(path.read_bytes())
        except (OSError, ValueError) as error:
            raise CorruptFile(f"{path} cannot be read: {error}") from error
        if manifest.name != name:
            raise CorruptFile(f"{path} holds another manifest, {manifest.name}")
        return manifest


def check_counts(segment: Segment, entry: SegmentEntry) -> None:
    """Raises CorruptFile unless a segment holds what its manifest says."""
    found = (
        len(segment.documents),
        len(segment.passages),
        int(segment.dead.sum()),
        segment.dead_passages,
        segment.postings,
    )
    wanted = (
        entry.documents,
        entry.passages,
        entry.dead_documents,
        entry.dead_passages,
        entry.postings,
    )
    if found != wanted:
        raise CorruptFile(f"segment {entry.id} holds {found}, the manifest says {wanted}")


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _remove(directory: Path, keep: set[str], older_than: float) -> int:
    removed = 0
    for path in directory.iterdir():
        if path.name not in keep and path.stat().st_ctime < older_than:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
