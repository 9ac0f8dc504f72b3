"""The published files of one shard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from core import fsops
from core.errors import CorruptFile, Fenced, NewerFormat
from core.index_store import garbage
from core.index_store.engine import CURRENT_FILE, Engine, Upload, Wanted, sha256_of_file
from core.manifest import FileEntry, Manifest, SegmentEntry, sha256_of
from core.segment import Segment

_MUTABLE = "meta.json"
_MANIFEST_NAME = re.compile(r"(\d+)-(\d+)\.json")


class ShardStore:
    """The part of an index store whose keys begin with `prefix`, as in `uid/0`."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix
        self._files = f"{prefix}/files"
        self._manifests = f"{prefix}/manifests"
        self._current = f"{prefix}/{CURRENT_FILE}"

    def path(self, entry: FileEntry) -> Path:
        """Where a file lies; it may be missing or corrupt until `verify` has passed."""
        return self._engine.path(self._wanted(entry))

    def put_files(
        self, paths: Iterable[Path], known: Iterable[FileEntry] = ()
    ) -> tuple[FileEntry, ...]:
        """Stores files durably under their content; the sources may be removed afterwards.

        A file that has the name and size of a `known` entry is taken to be that one: for files that
        never change under their name, such as Tantivy's.
        """
        stored = {entry.name: entry for entry in known if entry.name != _MUTABLE}
        entries, uploads = [], []
        for path in paths:
            size = path.stat().st_size
            entry = stored.get(path.name)
            if entry is None or entry.size != size or not self._engine.has(self._wanted(entry)):
                entry = FileEntry(path.name, size, sha256_of_file(path))
                uploads.append(Upload(self._wanted(entry).key, path, entry))
            entries.append(entry)
        self._engine.put_files(self._files, uploads)
        return tuple(entries)

    def put_bytes(self, name: str, data: bytes) -> FileEntry:
        """Stores a small file durably."""
        entry = FileEntry(name, len(data), sha256_of(data))
        self._engine.put_bytes(self._wanted(entry), data)
        return entry

    def write_manifest(self, manifest: Manifest) -> str:
        """Creates the manifest's file and returns its SHA-256. Raises Fenced if its name is taken.

        Writing the same manifest again changes nothing.
        """
        data = manifest.to_bytes()
        if not self._engine.create(f"{self._manifests}/{manifest.name}", data):
            raise Fenced(f"another indexer has written {manifest.name}")
        self._engine.keep(self._prefix, manifest.files())
        return sha256_of(data)

    def set_current(self, manifest: Manifest) -> None:
        """Points readers at a manifest that is committed."""
        self._engine.replace(self._current, manifest.name.encode())

    def current_mark(self) -> bytes | None:
        """Changes whenever another manifest becomes current; None while nothing is published."""
        return self._engine.mark(self._current)

    def read_current(self) -> Manifest | None:
        """The newest published manifest, None while there is none.

        Raises CorruptFile if CURRENT or the manifest is damaged, NewerFormat.
        """
        data = self._engine.read(self._current)
        if data is None:
            return None
        try:
            name = data.decode()
        except UnicodeDecodeError as error:
            raise CorruptFile(f"{self._where(self._current)} cannot be read") from error
        manifest = self._read_manifest(name)
        self._engine.keep(self._prefix, manifest.files())
        return manifest

    def manifests(self) -> list[Manifest]:
        """Every manifest that can be read, published or not, by ascending (epoch, generation)."""
        return list(self._newest_first())[::-1]

    def previous(self, manifest: Manifest) -> Manifest | None:
        """The manifest that was published before another, None if it is gone."""
        start = f"{manifest.generation - 1:012d}-"
        for name in self._manifest_names():
            if name.startswith(start):
                data = self._engine.read(f"{self._manifests}/{name}")
                if data is not None and sha256_of(data) == manifest.previous:
                    return self._read_manifest(name)
        return None

    def verify(self, entry: FileEntry) -> Path:
        """The path of a file that has the size and checksum it should have; else CorruptFile."""
        return self._engine.fetch([self._wanted(entry)])[0]

    def check(self, entry: FileEntry) -> None:
        """Reads the published file anew, whatever was verified before; raises CorruptFile."""
        self._engine.check(self._wanted(entry))

    def materialise(self, entries: Iterable[FileEntry], directory: Path) -> None:
        """Gives verified files their own names in an existing directory, for their readers."""
        wanted = [self._wanted(entry) for entry in entries]
        for each, path in zip(wanted, self._engine.fetch(wanted), strict=True):
            fsops.link_file(path, directory / each.entry.name)

    def open_segment(self, entry: SegmentEntry) -> Segment:
        """Verifies and opens a segment; raises CorruptFile if it is not what the manifest says."""
        fetched = self._engine.fetch([self._wanted(file) for file in entry.files])
        paths = {file.name: path for file, path in zip(entry.files, fetched, strict=True)}
        dead = self.verify(entry.dead) if entry.dead is not None else None
        segment = Segment.open(paths, dead, effort=entry.index.effort if entry.index else 0)
        check_counts(segment, entry)
        return segment

    def collect_garbage(
        self, *, keep: int = 3, minimum_age_seconds: float = 600.0, dry_run: bool = False
    ) -> garbage.Cleared:
        """Removes files that no retained manifest needs; with `dry_run` only says which would go.

        Retained are the last `keep` manifests up to the current one and all above it. Younger files
        are left alone: they may belong to a generation that is being built.
        """
        current = self.read_current()
        if current is None:
            return garbage.Cleared()
        retained = self._retained(current, keep)
        needed = {f"{self._manifests}/{manifest.name}" for manifest in retained}
        needed |= {self._wanted(file).key for each in retained for file in each.files()}
        found = self._engine.listed(self._manifests) + self._engine.listed(self._files)
        cleared = garbage.sort_out(found, needed, minimum_age_seconds)
        if not dry_run:
            self._engine.remove(cleared.keys)
        return cleared

    def _retained(self, current: Manifest, keep: int) -> list[Manifest]:
        retained, up_to_current = [], 0
        # There may be hundreds, and reading one takes milliseconds.
        for manifest in self._newest_first():
            retained.append(manifest)
            up_to_current += manifest.order <= current.order
            if up_to_current == keep:
                break
        return retained

    def _newest_first(self) -> Iterator[Manifest]:
        for name in sorted(self._manifest_names(), key=_order_of, reverse=True):
            try:
                yield self._read_manifest(name)
            except (CorruptFile, NewerFormat):
                continue

    def _wanted(self, entry: FileEntry) -> Wanted:
        return Wanted(f"{self._files}/{entry.sha256}", entry)

    def _where(self, key: str) -> str:
        return f"{self._engine.where}/{key}"

    def _manifest_names(self) -> list[str]:
        names = [each.key.rpartition("/")[2] for each in self._engine.listed(self._manifests)]
        return [name for name in names if _MANIFEST_NAME.fullmatch(name)]

    def _read_manifest(self, name: str) -> Manifest:
        key = f"{self._manifests}/{name}"
        if "/" in name or "\0" in name or not name.endswith(".json"):
            raise CorruptFile(f"{self._where(self._current)} does not name a manifest")
        data = self._engine.read(key)
        if data is None:
            raise CorruptFile(f"{self._where(key)} is missing")
        try:
            manifest = Manifest.from_bytes(data)
        except ValueError as error:
            raise CorruptFile(f"{self._where(key)} cannot be read: {error}") from error
        if manifest.name != name:
            raise CorruptFile(f"{self._where(key)} holds another manifest, {manifest.name}")
        return manifest


def _order_of(name: str) -> tuple[int, int]:
    """`Manifest.order` of the manifest that has this name."""
    generation, _, epoch = name.removesuffix(".json").partition("-")
    return int(epoch), int(generation)


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
