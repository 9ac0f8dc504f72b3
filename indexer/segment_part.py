"""One half of a working copy: a list of segments, as in a log-structured merge tree.

They hold documents, passages, vectors and, where the collection has that leg, weighted terms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import fsops
from core.documents import Document
from core.index_store import ShardStore
from core.manifest import FileEntry, SegmentEntry, sha256_of
from core.merging import merge_segments
from core.segment import DEAD, SPARSE, pack_dead, write_segment
from core.segment_tables import StoredDocument, StoredPassage
from core.sparse import Postings, count_postings
from core.wire import attributes_from_json
from indexer import merge
from indexer.batch import Batch, Embedded
from indexer.catalogue import CollectionRecord
from indexer.clock import moment
from indexer.segment_rows import SegmentRows


@dataclass(slots=True)
class _Open:
    """A segment of the working copy; `entry` may be behind `rows` until it is settled."""

    entry: SegmentEntry
    rows: SegmentRows

    def described(self) -> SegmentEntry:
        """The entry with the present counts of the dead."""
        return replace(
            self.entry,
            dead_documents=self.rows.dead_documents,
            dead_passages=self.rows.dead_passages,
        )


class SegmentPart:
    """Segments in `files`; new ones are written in `directory`, which exists, first."""

    def __init__(
        self,
        files: ShardStore,
        directory: Path,
        record: CollectionRecord,
        entries: Sequence[SegmentEntry],
    ) -> None:
        self._files = files
        self._directory = directory
        self._record = record
        self._segments = [_Open(e, SegmentRows.read(files.open_segment(e))) for e in entries]
        self._written = 0

    def __len__(self) -> int:
        return len(self._segments)

    def apply(self, batch: Batch) -> None:
        """Adds the batch's documents as a segment and marks those that they replace."""
        replaced = np.array(batch.replaced, np.int64)
        for segment in self._segments:
            segment.rows.kill(replaced)
        if batch.documents:
            self._add(batch.documents)

    def merge(self, policy: merge.MergePolicy) -> bool:
        """Does the one merge that the policy asks for; False if there is none to do."""
        chosen = merge.choose([segment.described() for segment in self._segments], policy)
        if not chosen:
            return False
        old = [segment for segment in self._segments if segment.entry.id in chosen]
        alive = [segment for segment in old if not segment.rows.dead.all()]
        if alive:
            self._settle(alive)
            opened = [self._files.open_segment(segment.entry) for segment in alive]
            paths = merge_segments(opened, self._new_directory())
            self._take_in(paths, _living(alive))
        self._segments = [segment for segment in self._segments if segment.entry.id not in chosen]
        return True

    def stage(self) -> tuple[SegmentEntry, ...]:
        """Makes the present state durable and describes it."""
        self._segments = [s for s in self._segments if not s.rows.dead.all()]
        self._settle(self._segments)
        return tuple(segment.entry for segment in self._segments)

    def _add(self, documents: Sequence[Embedded]) -> None:
        stored = [StoredDocument(each.change.sequence, _document(each)) for each in documents]
        passages = [
            StoredPassage(row, part.start_byte, part.end_byte, part.token_ids)
            for row, each in enumerate(documents)
            for part in each.passages
        ]
        empty = np.zeros((0, self._record.dimension), np.float32)
        paths = write_segment(
            self._new_directory(),
            stored,
            passages,
            np.concatenate([empty, *(each.vectors for each in documents)]),
            similarity=self._record.similarity,
            postings=self._postings(documents),
        )
        rows = SegmentRows.of(
            [each.change.sequence for each in documents], [len(each.passages) for each in documents]
        )
        self._take_in(paths, rows)

    def _postings(self, documents: Sequence[Embedded]) -> Postings | None:
        if not self._record.sparse_model:
            return None
        terms = [each for document in documents for each in document.terms]
        return Postings.of([(each.ids, each.weights) for each in terms])

    def _take_in(self, paths: Sequence[Path], rows: SegmentRows) -> None:
        files = self._files.put_files(paths)
        fsops.remove_tree(paths[0].parent)
        sparse = [self._files.path(file) for file in files if file.name == SPARSE]
        entry = SegmentEntry(
            id=_segment_id(files),
            documents=len(rows.sequences),
            passages=int(rows.passages.sum()),
            files=files,
            postings=count_postings(sparse[0]) if sparse else 0,
        )
        self._segments.append(_Open(entry, rows))

    def _settle(self, segments: Sequence[_Open]) -> None:
        """Stores the set of dead documents of each segment in which it has grown."""
        for segment in segments:
            described = segment.described()
            if described.dead_documents != segment.entry.dead_documents:
                dead = self._files.put_bytes(DEAD, pack_dead(segment.rows.dead))
                segment.entry = replace(described, dead=dead)

    def _new_directory(self) -> Path:
        self._written += 1
        directory = self._directory / f"segment-{self._written}"
        with fsops.storage_errors(directory):
            directory.mkdir()
        return directory


def _living(segments: Sequence[_Open]) -> SegmentRows:
    """The rows of the segment that a merge of these makes."""
    sequences = np.concatenate([s.rows.sequences[~s.rows.dead] for s in segments])
    passages = np.concatenate([s.rows.passages[~s.rows.dead] for s in segments])
    order = np.argsort(sequences, kind="stable")
    return SegmentRows(sequences[order], passages[order], np.zeros(len(order), np.bool_))


def _segment_id(files: Sequence[FileEntry]) -> str:
    return sha256_of("".join(file.sha256 for file in files).encode())[:16]


def _document(embedded: Embedded) -> Document:
    change = embedded.change
    return Document(
        id=change.id,
        title=change.title,
        text=change.text,
        attributes=attributes_from_json(json.loads(change.attributes)),
        version=change.version,
        update_time=moment(change.update_micros),
    )
