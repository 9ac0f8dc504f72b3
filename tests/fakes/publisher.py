"""Publishes generations of one shard as an indexer does, without Triton or a document store.

Each line of a text is one passage, its vector a bag of hashed words. `documents` holds the truth.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.analysis import analyzer_of
from core.documents import AttributeValue, Document
from core.filters.schema import UNKNOWN
from core.index_store import CollectionEntry, IndexStore, Location
from core.languages import ENGLISH, LexicalSettings
from core.lexical import LexicalWriter
from core.manifest import EncoderEntry, FileEntry, Manifest, SegmentEntry, SparseEncoderEntry
from core.merging import merge_segments
from core.ranking_wish import OPEN
from core.segment import DEAD, Segment, pack_dead
from core.segment_tables import StoredDocument, StoredPassage
from core.segment_writing import write_segment
from core.sparse import Postings
from core.vectors.choosing import FLAT_PLAN

DIMENSION = 64
SPARSE_ENCODER = SparseEncoderEntry("sparse_encoder", "1", "e" * 64, 30_000)
ENCODER = EncoderEntry("bi_encoder", "1", "f" * 64, DIMENSION, "cosine", 128, 0)
WRITTEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def embed(text: str) -> NDArray[np.float32]:
    """A normalised bag of words: float32 [DIMENSION]."""
    vector = np.zeros(DIMENSION, np.float32)
    for word in text.lower().split():
        vector[zlib.crc32(word.encode()) % DIMENSION] += 1
    return vector / max(1.0, float(np.linalg.norm(vector)))


def token_of(word: str) -> int:
    """The only token of a word."""
    return zlib.crc32(word.encode()) % SPARSE_ENCODER.dimension


def weigh(token_ids: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Distinct tokens and the logarithm of 1 + how often each occurs."""
    terms, counts = np.unique(token_ids, return_counts=True)
    return terms.astype(np.int32), np.log1p(counts).astype(np.float32)


def passages_of(number: int, text: str) -> list[StoredPassage]:
    """One passage per line that is not empty."""
    found, start = [], 0
    for line in text.split("\n"):
        size = len(line.encode())
        if line.strip():
            tokens = [token_of(word) for word in line.split()]
            found.append(StoredPassage(number, start, start + size, np.array(tokens, np.int32)))
        start += size + 1
    return found


class Publisher:
    """The writer of one shard of one collection."""

    def __init__(
        self,
        root: Path | Location,
        name: str = "ships",
        *,
        uid: str = "uid-1",
        shard: int = 0,
        shards: int = 1,
        similarity: str = "cosine",
        sparse: bool = False,
        lexical: LexicalSettings = ENGLISH,
    ) -> None:
        self.index = IndexStore.create(root)
        self.index.create_collection(CollectionEntry(name, uid, shards))
        self.store = self.index.shard(uid, shard)
        self.name, self.uid, self.shard, self.shards = name, uid, shard, shards
        self.encoder = replace(ENCODER, similarity=similarity)
        self.sparse_encoder = SPARSE_ENCODER if sparse else None
        self.search_defaults = OPEN
        self.plan = FLAT_PLAN
        self.schema = UNKNOWN
        self.documents: dict[str, StoredDocument] = {}
        self.manifest: Manifest | None = None
        self.epoch = 1
        self._sequence = 0
        self._pending: dict[str, StoredDocument] = {}
        self._entries: list[SegmentEntry] = []
        beside = root.directory if isinstance(root, Location) else root
        self._work = Path(tempfile.mkdtemp(prefix="publisher-", dir=beside.parent))
        self.lexical_settings = lexical
        self._analyzer = analyzer_of(lexical)
        self._lexical = LexicalWriter.open(self._directory("lexical"), self._analyzer)

    def put(
        self,
        document_id: str,
        text: str = "",
        *,
        title: str = "",
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        """Stores or replaces a document, from the next generation on."""
        self._sequence += 1
        before = self.documents.get(document_id)
        version = before.document.version + 1 if before is not None else 1
        document = Document(document_id, title, text, attributes or {}, version, WRITTEN)
        stored = StoredDocument(self._sequence, document)
        self.documents[document_id] = self._pending[document_id] = stored
        self._lexical.put(self._sequence, document_id, title, text)

    def delete(self, document_id: str) -> None:
        """Removes a document, from the next generation on."""
        self._sequence += 1
        del self.documents[document_id]
        self._pending.pop(document_id, None)
        self._lexical.delete(document_id)

    def publish(self) -> Manifest:
        """Publishes a generation with everything so far."""
        if self._pending:
            pending = sorted(self._pending.values(), key=lambda stored: stored.sequence)
            self._entries.append(self._write(pending))
            self._pending.clear()
        self._entries = [self._with_dead(entry) for entry in self._entries]
        self._lexical.commit()
        return self._publish()

    def merge(self) -> Manifest:
        """Publishes a generation with the same documents in one segment."""
        directory = self._directory("merge")
        segments = [self.store.open_segment(entry) for entry in self._entries]
        self._entries = [self._merged(segments, directory)]
        return self._publish()

    def files(self) -> Sequence[FileEntry]:
        """Every file of the last generation."""
        assert self.manifest is not None
        return tuple(self.manifest.files())

    def _publish(self) -> Manifest:
        before = self.manifest
        exported = self._lexical.export(self._directory("export"))
        passages = sum(entry.passages - entry.dead_passages for entry in self._entries)
        self.manifest = Manifest(
            uid=self.uid,
            collection=self.name,
            shard=self.shard,
            shard_count=self.shards,
            epoch=self.epoch,
            generation=before.generation + 1 if before is not None else 1,
            sequence=self._sequence,
            chain="0" * 64,
            previous=self.store.write_manifest(before) if before is not None else "",
            encoder=self.encoder,
            sparse_encoder=self.sparse_encoder,
            segments=tuple(self._entries),
            lexical=self.store.put_files(exported, before.lexical if before is not None else ()),
            documents=len(self.documents),
            passages=passages,
            created_at=1_767_323_045.0,
            search_defaults=self.search_defaults,
            lexical_settings=self.lexical_settings,
            schema=self.schema,
        )
        self.store.write_manifest(self.manifest)
        self.store.set_current(self.manifest)
        return self.manifest

    def _write(self, documents: Sequence[StoredDocument]) -> SegmentEntry:
        directory, passages, vectors = self._directory("segment"), [], []
        for number, stored in enumerate(documents):
            text = stored.document.text
            for passage in passages_of(number, text):
                passages.append(passage)
                part = text.encode()[passage.start_byte : passage.end_byte].decode()
                vectors.append(embed(f"{stored.document.title} {part}"))
        matrix = np.array(vectors, np.float32).reshape(len(vectors), DIMENSION)
        terms = [weigh(passage.token_ids) for passage in passages]
        paths = write_segment(
            directory,
            documents,
            passages,
            matrix,
            similarity=self.encoder.similarity,
            postings=Postings.of(terms) if self.sparse_encoder is not None else None,
            analyzer=self._analyzer,
        )
        if self.plan.is_flat:
            return self._entry(directory, paths)
        written = Segment.open({path.name: path for path in paths})
        return self._merged([written], self._directory("sealed"))

    def _merged(self, segments: Sequence[Segment], directory: Path) -> SegmentEntry:
        merged = merge_segments(segments, directory, self.plan)
        return replace(self._entry(directory, merged.paths), index=merged.index)

    def _entry(self, directory: Path, paths: Sequence[Path]) -> SegmentEntry:
        segment = Segment.open({path.name: path for path in paths})
        return SegmentEntry(
            id=directory.name,
            documents=len(segment.documents),
            passages=len(segment.passages),
            files=self.store.put_files(paths),
            postings=segment.postings,
        )

    def _with_dead(self, entry: SegmentEntry) -> SegmentEntry:
        segment = self.store.open_segment(entry)
        live = {stored.sequence for stored in self.documents.values()}
        sequences = segment.documents["sequence"].to_pylist()
        dead = np.array([sequence not in live for sequence in sequences])
        if not dead.any():
            return entry
        file = self.store.put_bytes(DEAD, pack_dead(dead))
        counted = segment.with_dead(self.store.verify(file))
        return replace(
            entry, dead=file, dead_documents=int(dead.sum()), dead_passages=counted.dead_passages
        )

    def _directory(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._work))
