"""The lexical half of a working copy: one Tantivy index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from core import fsops
from core.analysis import Analyzer
from core.index_store import ShardStore
from core.lexical import LexicalWriter, count_dead
from core.manifest import FileEntry
from core.segment_tables import StoredDocument
from indexer.batch import Batch


class LexicalPart:
    """Written in a folder of `directory`, which exists; stored in `files` after every batch.

    A writer holds megabytes and threads, so it is only there while it is used; see `rest`.
    """

    def __init__(
        self,
        files: ShardStore,
        directory: Path,
        entries: Sequence[FileEntry],
        analyzer: Analyzer,
    ) -> None:
        self._files = files
        self._directory = directory
        self._analyzer = analyzer
        self._folder = directory / "lexical"
        self._writer: LexicalWriter | None = None
        self.entries: Sequence[FileEntry] = entries
        fsops.make_directory(self._folder)
        files.materialise(entries, self._folder)
        if not entries:
            self._commit(self._open())

    def apply(self, batch: Batch) -> None:
        """Puts the batch's documents in the place of earlier ones, and removes deleted ones."""
        writer = self._open()
        for document_id in batch.deleted_ids:
            writer.delete(document_id)
        for document in batch.documents:
            change = document.change
            is_new = not change.previous
            writer.put(change.sequence, change.id, change.title, change.text, is_new=is_new)
        self._commit(writer)

    def compact(self, documents: Iterable[StoredDocument]) -> bool:
        """Writes the index anew from all live documents; False if there is nothing to gain."""
        if not count_dead(self._folder):
            return False
        self.rest()
        before, other = self._folder, "lexical" if self._folder.name != "lexical" else "anew"
        self._folder = self._directory / other
        fsops.make_directory(self._folder)
        writer = self._open()
        for stored in documents:
            document = stored.document
            writer.put(stored.sequence, document.id, document.title, document.text, is_new=True)
        self._commit(writer)
        fsops.remove_tree(before)
        return True

    def rest(self) -> None:
        """Frees the writer until it is needed again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> LexicalWriter:
        if self._writer is None:
            self._writer = LexicalWriter.open(self._folder, self._analyzer)
        return self._writer

    def _commit(self, writer: LexicalWriter) -> None:
        writer.commit()
        export = self._directory / "export"
        with fsops.storage_errors(export):
            export.mkdir()
        self.entries = self._files.put_files(writer.export(export), known=self.entries)
        fsops.remove_tree(export)
