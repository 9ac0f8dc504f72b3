"""The lexical half of a working copy: one Tantivy index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core import fsops
from core.index_store import ShardStore
from core.lexical import LexicalWriter
from core.manifest import FileEntry
from indexer.batch import Batch


class LexicalPart:
    """Written in `directory`, which exists, and stored in `files` after every batch."""

    def __init__(self, files: ShardStore, directory: Path, entries: Sequence[FileEntry]) -> None:
        self._files = files
        self._export = directory / "export"
        fsops.make_directory(directory / "lexical")
        files.materialise(entries, directory / "lexical")
        self._writer = LexicalWriter.open(directory / "lexical")
        self.entries: Sequence[FileEntry] = entries
        if not entries:
            self._commit()

    def apply(self, batch: Batch) -> None:
        """Puts the batch's documents in the place of earlier ones, and removes deleted ones."""
        for document_id in batch.deleted_ids:
            self._writer.delete(document_id)
        for document in batch.documents:
            change = document.change
            self._writer.put(change.sequence, change.id, change.title, change.text)
        self._commit()

    def close(self) -> None:
        """Frees the index."""
        self._writer.close()

    def _commit(self) -> None:
        self._writer.commit()
        with fsops.storage_errors(self._export):
            self._export.mkdir()
        self.entries = self._files.put_files(self._writer.export(self._export), known=self.entries)
        fsops.remove_tree(self._export)
