"""The working copy of one shard's index: takes batches in, hands manifests out.

Everything here is synchronous and belongs to one shard; nothing is visible to searchers before its
manifest is committed elsewhere. After any failure the copy is given up and opened again from the
last published manifest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core import fsops
from core.analysis import analyzer_of
from core.index_store import ShardStore
from core.manifest import (
    EncoderEntry,
    FileEntry,
    Manifest,
    SegmentEntry,
    SparseEncoderEntry,
    sha256_of,
)
from core.ranking_wish import RankingWish
from indexer.batch import Place
from indexer.catalogue import CollectionRecord
from indexer.changes import first_chain
from indexer.lexical_part import LexicalPart
from indexer.seen_attributes import SeenAttributes
from indexer.segment_part import SegmentPart
from indexer.vector_state import VectorState


class ShardIndex:
    """`segments` and `lexical` may be changed at the same time; then `stage` describes both.

    `place`, `search_defaults`, `schema` and `vectors` are those of the last manifest.
    """

    def __init__(
        self,
        record: CollectionRecord,
        shard: int,
        directory: Path,
        segments: SegmentPart,
        lexical: LexicalPart,
        seen: SeenAttributes,
    ) -> None:
        self.segments = segments
        self.lexical = lexical
        self.place = Place(0, first_chain(record.uid, shard))
        self.search_defaults = record.search_defaults
        self.schema = record.schema_
        self._record = record
        self._shard = shard
        self._directory = directory
        self.vectors = VectorState()
        self._previous = ""
        self._seen = seen

    @classmethod
    def open(
        cls,
        record: CollectionRecord,
        shard: int,
        files: ShardStore,
        directory: Path,
        manifest: Manifest | None,
        *,
        gpu: bool = False,
    ) -> ShardIndex:
        """Verifies every file of `manifest` and goes on from it in `directory`, which is wiped.

        Without a manifest the index is empty. Raises CorruptFile if a file is not what the manifest
        says.
        """
        segments: Sequence[SegmentEntry] = manifest.segments if manifest is not None else ()
        lexical: Sequence[FileEntry] = manifest.lexical if manifest is not None else ()
        fsops.remove_tree(directory)
        fsops.make_directory(directory)
        index = cls(
            record,
            shard,
            directory,
            SegmentPart(files, directory, record, segments, gpu=gpu),
            LexicalPart(files, directory, lexical, analyzer_of(record.lexical)),
            SeenAttributes(files),
        )
        if manifest is not None:
            index.place = Place(manifest.sequence, manifest.chain)
            index.vectors = VectorState.of(segments)
            index.search_defaults = manifest.search_defaults
            seen, complete = manifest.schema.seen, manifest.schema.complete
            index.schema = replace(record.schema_, seen=seen, complete=complete)
            index._previous = sha256_of(manifest.to_bytes())
        return index

    def stage(
        self, place: Place, search_defaults: RankingWish, *, epoch: int, generation: int
    ) -> Manifest:
        """The manifest of this state, which covers the feed up to `place`; all files durable."""
        segments = self.segments.stage()
        self.vectors = VectorState.of(segments)
        record = self._record
        self.place, self.search_defaults = place, search_defaults
        self.schema = self._seen.added_to(self.schema, segments)
        return Manifest(
            uid=record.index,
            collection=record.index_name,
            shard=self._shard,
            shard_count=record.shard_count,
            epoch=epoch,
            generation=generation,
            sequence=place.sequence,
            chain=place.chain,
            previous=self._previous,
            encoder=_encoder_entry(record),
            segments=segments,
            lexical=tuple(self.lexical.entries),
            documents=sum(each.documents - each.dead_documents for each in segments),
            passages=sum(each.passages - each.dead_passages for each in segments),
            created_at=time.time(),
            sparse_encoder=_sparse_encoder_entry(record),
            search_defaults=search_defaults,
            lexical_settings=record.lexical,
            schema=self.schema,
        )

    def published(self, sha256: str) -> None:
        """Notes that the last staged manifest, with this checksum, was committed."""
        self._previous = sha256

    def close(self) -> None:
        """Frees the lexical index and removes the working copy."""
        self.lexical.rest()
        fsops.remove_tree(self._directory)

    def __repr__(self) -> str:
        return f"<ShardIndex {len(self.segments)} segments, up to change {self.place.sequence}>"


def _encoder_entry(record: CollectionRecord) -> EncoderEntry:
    return EncoderEntry(
        model=record.encoder_model,
        version=record.encoder_version,
        fingerprint=record.encoder_fingerprint,
        dimension=record.dimension,
        similarity=record.similarity,
        max_tokens=record.max_tokens,
        overlap_tokens=record.overlap_tokens,
    )


def _sparse_encoder_entry(record: CollectionRecord) -> SparseEncoderEntry | None:
    if not record.sparse_model:
        return None
    return SparseEncoderEntry(
        model=record.sparse_model,
        version=record.sparse_version,
        fingerprint=record.sparse_fingerprint,
        dimension=record.sparse_dimension,
    )
