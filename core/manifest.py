"""The manifest: everything that one generation of one shard consists of, and what it covers.

A manifest is created once and never changed. It lists every file with size and SHA-256, so that
nothing reaches FAISS, Tantivy or Arrow unverified, and holds a checksum of itself.

    format 1   dense vectors compared by inner product, and the lexical index
    format 2   any similarity, a learned-sparse part in each segment
    format 3   documents as callers see them, with their words counted; how searches rank
    format 4   segments searched by an approximate index, with its measured recall; what counts as a
               word in the collection, and where words stand in a text

What an earlier version wrote stays in its format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from core import config
from core.errors import BadEnvironment, CorruptFile, NewerFormat
from core.filters.schema import UNKNOWN, Schema
from core.languages import ENGLISH, LexicalSettings
from core.ranking_wish import OPEN, RankingWish

FORMAT = 4
"""The format that this version writes, and the highest that it reads."""

_CHECKSUM = "self_sha256"
# Not written while they say nothing, so that what earlier formats wrote keeps its checksum.
_LEFT_OUT: Mapping[str, object] = {
    "lexical_settings": ENGLISH,
    "schema": UNKNOWN,
    "search_defaults": OPEN,
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One immutable file; `name` is what its reader calls it, content is found by `sha256`."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """How a sealed segment's vectors are searched, as `core.vectors` builds and measures it.

    `effort` is nprobe or efSearch, the smallest that met the collection's target; `recall` is the
    share of the 10 nearest vectors that it found, averaged over `queries` sampled ones.
    """

    kind: str
    effort: int
    recall: float
    queries: int


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment. `documents` and `passages` count all rows, `dead_*` those not to be found.

    `postings` counts the weights in the learned-sparse part. `dead` is the bitmap of dead documents
    (see `segment`), None while all are alive. Without an `index` vectors are searched one by one.
    """

    id: str
    documents: int
    passages: int
    files: tuple[FileEntry, ...]
    dead: FileEntry | None = None
    dead_documents: int = 0
    dead_passages: int = 0
    postings: int = 0
    index: IndexEntry | None = None


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """The encoder that made every vector of the generation, and how texts were split for it.

    `dimension` is that of the stored vectors, which may be fewer components than the model gives.
    """

    model: str
    version: str
    fingerprint: str
    dimension: int
    similarity: str
    max_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class SparseEncoderEntry:
    """The encoder that made the weights of the learned-sparse leg; `dimension` counts its terms."""

    model: str
    version: str
    fingerprint: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of one shard of one collection.

    `sequence` and `chain` are the last change covered and the hash chain of the feed up to it,
    `previous` is the SHA-256 of the manifest before (empty for the first), `lexical` lists the
    files of the Tantivy index, whose words are by `lexical_settings`, `documents` and `passages`
    count the live ones, `created_at` is in seconds since 1970. Without a `sparse_encoder` there is
    no learned-sparse leg. Searches that do not say how they rank do so by `search_defaults`.
    `schema` says which attributes documents have.
    """

    uid: str
    collection: str
    shard: int
    shard_count: int
    epoch: int
    generation: int
    sequence: int
    chain: str
    previous: str
    encoder: EncoderEntry
    segments: tuple[SegmentEntry, ...]
    lexical: tuple[FileEntry, ...]
    documents: int
    passages: int
    created_at: float
    sparse_encoder: SparseEncoderEntry | None = None
    search_defaults: RankingWish = OPEN
    lexical_settings: LexicalSettings = ENGLISH
    schema: Schema = UNKNOWN
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The manifest's file name."""
        return f"{self.generation:012d}-{self.epoch:06d}.json"

    @property
    def order(self) -> tuple[int, int]:
        """(epoch, generation): a reader never goes to a lower one."""
        return self.epoch, self.generation

    def files(self) -> Iterator[FileEntry]:
        """Every file of the generation."""
        for segment in self.segments:
            yield from segment.files
            if segment.dead is not None:
                yield segment.dead
        yield from self.lexical

    def to_bytes(self) -> bytes:
        """Canonical JSON with its own checksum; equal manifests give equal bytes."""
        values: dict[str, Any] = _plain(self)
        for name, default in _LEFT_OUT.items():
            if getattr(self, name) == default:
                del values[name]
        for segment in values["segments"]:
            if segment["index"] is None:
                del segment["index"]
        if self.format == 1:
            del values["sparse_encoder"]
            for segment in values["segments"]:
                del segment["postings"]
        return _canonical({**values, _CHECKSUM: _checksum(values)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Reads what to_bytes wrote.

        Raises CorruptFile if the bytes are not what was written, NewerFormat if a newer version of
        this software wrote them.
        """
        values = _parse(data)
        checksum = values.pop(_CHECKSUM, None)
        if checksum != _checksum(values) or _canonical({**values, _CHECKSUM: checksum}) != data:
            raise CorruptFile("the manifest does not have its own checksum")
        written_in = values.get("format")
        if written_in not in range(1, FORMAT + 1):
            raise NewerFormat(
                f"the manifest has format {written_in}, this version reads up to {FORMAT}",
                remedy="run the newer version",
            )
        try:
            return config.build(cls, values, "manifest")
        except BadEnvironment as error:
            raise CorruptFile(f"the manifest is not one: {error}") from error


def sha256_of(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, as `asdict` has them; that copies every leaf too."""
    if names := _field_names(type(value)):  # type: ignore[arg-type]
        return {name: _plain(getattr(value, name)) for name in names}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    """Those of a dataclass; none if it is not one."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError as error:
        raise CorruptFile("the manifest is not JSON") from error
    if not isinstance(values, dict):
        raise CorruptFile("the manifest is not a JSON object")
    return values


def _checksum(values: Mapping[str, Any]) -> str:
    return sha256_of(_canonical(values))


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(
        values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
