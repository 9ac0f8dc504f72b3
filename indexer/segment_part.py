"""One half of a working copy: a list of segments, as in a log-structured merge tree.

They hold documents, passages, vectors and, where the collection has that leg, weighted terms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core import fsops
from core.analysis import analyzer_of
from core.documents import Document
from core.index_store import ShardStore
from core.manifest import SegmentEntry
from core.segment import DEAD, pack_dead
from core.segment_tables import StoredDocument, StoredPassage
from core.segment_writing import write_segment
from core.sparse import Postings
from core.vectors.choosing import Plan, choose_kind
from core.wire import attributes_from_json
from indexer.batch import Batch, Embedded
from indexer.catalogue import CollectionRecord
from indexer.clock import moment
from indexer.merge import Choose, MergePolicy, choose_quick
from indexer.merge_job import MergeJob, OpenSegment, take_in
from indexer.segment_rows import SegmentRows


class SegmentPart:
    """Segments in `files`; new ones are written in `directory`, which exists, first.

    `settings` say how large ones are indexed from now on, `gpu` where they will be searched.
    """

    def __init__(
        self,
        files: ShardStore,
        directory: Path,
        record: CollectionRecord,
        entries: Sequence[SegmentEntry],
        *,
        gpu: bool = False,
    ) -> None:
        self.settings = record.vector_index
        self._gpu = gpu
        self._merging: set[str] = set()
        self._files = files
        self._directory = directory
        self._record = record
        self._segments = [OpenSegment(e, SegmentRows.read(files.open_segment(e))) for e in entries]
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

    def merge(self, policy: MergePolicy, choose: Choose = choose_quick) -> bool:
        """Does the one merge that the policy asks for; False if there is none to do."""
        job = self.plan(policy, choose)
        if job is None:
            return False
        try:
            job.run()
        except BaseException:
            self.release(job)
            raise
        self.swap(job)
        return True

    def plan(self, policy: MergePolicy, choose: Choose) -> MergeJob | None:
        """The merge that is to be done; None if there is none. Its segments are left to it."""
        free = [each for each in self._segments if each.entry.id not in self._merging]
        chosen = choose([segment.described() for segment in free], policy)
        if not chosen:
            return None
        sources = [segment for segment in free if segment.entry.id in chosen]
        self._settle([each for each in sources if not each.rows.dead.all()])
        self._written += 1
        directory = self._directory / f"merge-{self._written}"
        job = MergeJob(self._files, directory, sources, self._plan_for)
        self._merging |= job.ids
        return job

    def swap(self, job: MergeJob) -> None:
        """Puts what a merge made in the place of what it read."""
        self._segments = [each for each in self._segments if each.entry.id not in job.ids]
        made = job.outcome()
        if made is not None:
            self._segments.append(made)
        self.release(job)

    def release(self, job: MergeJob) -> None:
        """Lets the segments of a merge be merged again."""
        self._merging -= job.ids

    def documents(self) -> Iterator[StoredDocument]:
        """The live documents with their sequences."""
        for segment in self._segments:
            opened = self._files.open_segment(segment.entry)
            for row in np.flatnonzero(~segment.rows.dead).tolist():
                yield opened.read(row)

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
            analyzer=analyzer_of(self._record.lexical),
        )
        rows = SegmentRows.of(
            [each.change.sequence for each in documents], [len(each.passages) for each in documents]
        )
        self._segments.append(OpenSegment(take_in(self._files, paths, rows), rows))

    def _postings(self, documents: Sequence[Embedded]) -> Postings | None:
        if not self._record.sparse_model:
            return None
        terms = [each for document in documents for each in document.terms]
        return Postings.of([(each.ids, each.weights) for each in terms])

    def _plan_for(self, rows: int) -> Plan:
        """The kind of index that a segment of so many vectors gets."""
        living = sum(int(each.rows.passages[~each.rows.dead].sum()) for each in self._segments)
        return choose_kind(
            rows,
            self._record.dimension,
            self._record.similarity,
            self.settings,
            shard_rows=living,
            shard_count=self._record.shard_count,
            gpu=self._gpu,
        )

    def _settle(self, segments: Sequence[OpenSegment]) -> None:
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
