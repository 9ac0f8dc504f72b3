"""What a snapshot consists of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from core import config
from core.errors import BadEnvironment, CorruptFile, NewerFormat
from core.manifest import FileEntry, sha256_of

FORMAT = 1
_CHECKSUM = "self_sha256"


@dataclass(frozen=True, slots=True)
class SnapshotManifest:
    """A snapshot of one collection.

    `settings` is the collection's row in the document store, as JSON; `documents` counts those that
    were live; `files` hold them, one after another.
    """

    name: str
    collection: str
    uid: str
    documents: int
    create_micros: int
    settings: str
    files: tuple[FileEntry, ...]
    format: int = FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """JSON with its own checksum."""
        values = asdict(self)
        return _json({**values, _CHECKSUM: sha256_of(_json(values))})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> SnapshotManifest:
        """Reads what to_bytes wrote; raises CorruptFile or NewerFormat."""
        try:
            values = json.loads(data)
            checksum = values.pop(_CHECKSUM)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(f"{where} is no manifest of a snapshot") from error
        if checksum != sha256_of(_json(values)) or _json({**values, _CHECKSUM: checksum}) != data:
            raise CorruptFile(f"{where} does not have its own checksum")
        if values.get("format") != FORMAT:
            raise NewerFormat(
                f"{where} has format {values.get('format')}, this version reads {FORMAT}",
                remedy="run the newer version",
            )
        try:
            return config.build(cls, values, where)
        except BadEnvironment as error:
            raise CorruptFile(f"{where} is no manifest of a snapshot: {error}") from error


def _json(values: object) -> bytes:
    return json.dumps(values, sort_keys=True, ensure_ascii=False).encode()
