"""What an index store needs of the place that keeps its objects."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import CorruptFile
from core.manifest import FileEntry

COLLECTION_FILE = "collection.json"
DELETED_FILE = "DELETED"
CURRENT_FILE = "CURRENT"
NAMES_FILE = "names.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing shows it: its key, its bytes, how long it has been there."""

    key: str
    size: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be stored under a key that stands for its content."""

    key: str
    path: Path
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stored file and what it must be."""

    key: str
    entry: FileEntry


class Engine(Protocol):
    """Keeps objects under keys such as `uid/0/CURRENT`; what it returns from writing is durable.

    Every method may raise IndexStoreUnavailable, BadEnvironment or StorageFull besides what it
    says. All block.
    """

    @property
    def where(self) -> str:
        """The place in words, for messages."""

    def prepare(self) -> None:
        """Makes the place ready for whoever writes to it."""

    def read(self, key: str) -> bytes | None:
        """A small object, None if it is not there."""

    def replace(self, key: str, data: bytes) -> None:
        """Stores a small object in one step: readers see the old content or the new."""

    def create(self, key: str, data: bytes) -> bool:
        """Stores a small object unless its key is taken; False if it is, by other content."""

    def put_files(self, folder: str, uploads: Sequence[Upload]) -> None:
        """Stores files whose keys lie directly in `folder`; damaged ones there are healed."""

    def put_bytes(self, wanted: Wanted, data: bytes) -> None:
        """Stores a small file."""

    def has(self, wanted: Wanted) -> bool:
        """Whether a file of that size is there; its content is not read."""

    def path(self, wanted: Wanted) -> Path:
        """Where a file lies on this machine; it may be missing or damaged until fetched."""

    def fetch(self, wanted: Sequence[Wanted]) -> list[Path]:
        """Files on this machine that have the sizes and checksums they should; else CorruptFile."""

    def check(self, wanted: Wanted) -> None:
        """Reads a stored file anew, whatever was checked before; raises CorruptFile."""

    def keep(self, owner: str, entries: Iterable[FileEntry]) -> None:
        """Says which files `owner` needs on this machine from now on."""

    def uids(self, known: Collection[str]) -> set[str]:
        """Collections that are not deleted; `known` ones need not be looked at closely."""

    def mark(self, key: str) -> bytes | None:
        """Changes with an object's content; None if it is not there. May be a moment old."""

    def listed(self, folder: str) -> list[Stored]:
        """Everything below a folder, by key; the empty folder holds all."""

    def remove(self, keys: Iterable[str]) -> None:
        """Removes objects; those that are not there are left out."""

    def remove_tree(self, folder: str) -> None:
        """Removes everything below a folder."""


def sha256_of_file(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file's content; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, entry: FileEntry) -> None:
    """Raises CorruptFile unless a file is what its entry says."""
    try:
        size, checksum = path.stat().st_size, sha256_of_file(path)
    except OSError as error:
        raise CorruptFile(f"{entry.name} ({path}) cannot be read: {error.strerror}") from error
    if (size, checksum) != (entry.size, entry.sha256):
        raise CorruptFile(f"{entry.name} ({path}) has {size} bytes and SHA-256 {checksum}")
