"""Where snapshots lie. Blocking: for a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.errors import CorruptFile, NotFound, SnapshotExists
from core.index_store.engine import Engine, Upload, Wanted, sha256_of_file
from core.manifest import FileEntry
from indexer.snapshots.manifest import SnapshotManifest

FOLDER = "snapshots"
_MANIFEST = "manifest.json"


class Archive:
    """Snapshots in `engine`, each visible from the moment its manifest is there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check_free(self, name: str) -> None:
        """Raises SnapshotExists if the name is taken."""
        if self._engine.read(_key(name)) is not None:
            raise _taken(name)

    def store(self, name: str, paths: Sequence[Path]) -> tuple[FileEntry, ...]:
        """Stores a snapshot's files durably; nobody sees them yet."""
        entries = tuple(
            FileEntry(path.name, path.stat().st_size, sha256_of_file(path)) for path in paths
        )
        self._engine.put_files(
            f"{FOLDER}/{name}/files",
            [
                Upload(_wanted(name, entry).key, path, entry)
                for path, entry in zip(paths, entries, strict=True)
            ],
        )
        return entries

    def publish(self, manifest: SnapshotManifest) -> None:
        """Makes a snapshot visible, whose files are stored; raises SnapshotExists."""
        if not self._engine.create(_key(manifest.name), manifest.to_bytes()):
            raise _taken(manifest.name)

    def read(self, name: str) -> SnapshotManifest:
        """A snapshot's manifest; raises NotFound (SNAPSHOT_NOT_FOUND), CorruptFile, NewerFormat."""
        data = self._engine.read(_key(name))
        if data is None:
            raise NotFound(
                "SNAPSHOT_NOT_FOUND",
                f"no snapshot is called {name!r}",
                field="name",
                remedy="list the ones there are",
            )
        manifest = SnapshotManifest.from_bytes(data, f"{self._engine.where}/{_key(name)}")
        if manifest.name != name:
            raise CorruptFile(f"{_key(name)} is the manifest of {manifest.name!r}")
        return manifest

    def every(self) -> list[SnapshotManifest]:
        """All snapshots, by name; raises CorruptFile or NewerFormat if one cannot be read."""
        return [self.read(name) for name in self.names()]

    def names(self) -> list[str]:
        """What all snapshots are called, in order."""
        keys = [each.key.split("/") for each in self._engine.listed(FOLDER)]
        return sorted(key[1] for key in keys if len(key) == 3 and key[2] == _MANIFEST)

    def fetch(self, manifest: SnapshotManifest) -> list[Path]:
        """A snapshot's files on this machine, verified; raises CorruptFile."""
        return self._engine.fetch([_wanted(manifest.name, file) for file in manifest.files])

    def delete(self, name: str) -> None:
        """Removes a snapshot; raises NotFound (SNAPSHOT_NOT_FOUND)."""
        if self._engine.read(_key(name)) is None:
            self.read(name)
        self._engine.remove([_key(name)])
        self._engine.remove_tree(f"{FOLDER}/{name}")


def _key(name: str) -> str:
    return f"{FOLDER}/{name}/{_MANIFEST}"


def _wanted(name: str, entry: FileEntry) -> Wanted:
    return Wanted(f"{FOLDER}/{name}/files/{entry.sha256}", entry)


def _taken(name: str) -> SnapshotExists:
    return SnapshotExists(
        f"a snapshot is called {name!r} already",
        field="name",
        remedy="choose another name, or delete that snapshot first",
    )
