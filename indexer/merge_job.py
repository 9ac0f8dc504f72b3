"""One merge of segments, from the plan to files that are durable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import fsops
from core.index_store import ShardStore
from core.manifest import FileEntry, IndexEntry, SegmentEntry, sha256_of
from core.merging import merge_segments
from core.segment import SPARSE
from core.sparse import count_postings
from core.vectors.choosing import Plan
from indexer.segment_rows import SegmentRows


class Abandoned(Exception):
    """A merge was given up because its working copy is."""


@dataclass(slots=True)
class OpenSegment:
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


class MergeJob:
    """Merges `sources` as they were when it was made; `run` may take long and touches nothing else.

    Documents that die meanwhile are dead in what `outcome` gives. Without a living row there is
    nothing to run.
    """

    def __init__(
        self,
        files: ShardStore,
        directory: Path,
        sources: Sequence[OpenSegment],
        plan_for: Callable[[int], Plan],
    ) -> None:
        self.sources = sources
        self._files = files
        self._directory = directory
        self._entries = [each.entry for each in sources if not each.rows.dead.all()]
        self._living = _living(sources)
        self._plan = plan_for(int(self._living.passages.sum()))
        self._abandoned = threading.Event()
        self._made: SegmentEntry | None = None

    @property
    def ids(self) -> set[str]:
        """The segments that this one takes the place of."""
        return {source.entry.id for source in self.sources}

    def run(self) -> None:
        """Merges, seals if that is planned, and stores the files; raises Abandoned."""
        if not self._entries:
            return
        with fsops.storage_errors(self._directory):
            self._directory.mkdir()
        opened = [self._files.open_segment(entry) for entry in self._entries]
        merged = merge_segments(opened, self._directory, self._plan, self._check)
        self._check()
        self._made = take_in(self._files, merged.paths, self._living, merged.index)

    def abandon(self) -> None:
        """Has `run` end soon."""
        self._abandoned.set()

    def outcome(self) -> OpenSegment | None:
        """The new segment, as of now; None if nothing was alive."""
        if self._made is None:
            return None
        for source in self.sources:
            self._living.kill(source.rows.sequences[source.rows.dead])
        return OpenSegment(self._made, self._living)

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise Abandoned

    def __repr__(self) -> str:
        return f"<MergeJob of {len(self.sources)} segments, {self._plan.kind.name}>"


def take_in(
    files: ShardStore, paths: Sequence[Path], rows: SegmentRows, index: IndexEntry | None = None
) -> SegmentEntry:
    """Makes a written segment's files durable, in the index store."""
    stored = files.put_files(paths)
    fsops.remove_tree(paths[0].parent)
    sparse = [files.path(file) for file in stored if file.name == SPARSE]
    return SegmentEntry(
        id=_segment_id(stored),
        documents=len(rows.sequences),
        passages=int(rows.passages.sum()),
        files=stored,
        postings=count_postings(sparse[0]) if sparse else 0,
        index=index,
    )


def _living(segments: Sequence[OpenSegment]) -> SegmentRows:
    """The rows of the segment that a merge of these makes."""
    sequences = np.concatenate([s.rows.sequences[~s.rows.dead] for s in segments])
    passages = np.concatenate([s.rows.passages[~s.rows.dead] for s in segments])
    order = np.argsort(sequences, kind="stable")
    return SegmentRows(sequences[order], passages[order], np.zeros(len(order), np.bool_))


def _segment_id(files: Sequence[FileEntry]) -> str:
    return sha256_of("".join(file.sha256 for file in files).encode())[:16]
