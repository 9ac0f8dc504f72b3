"""Writes segments; `segment` says what their files hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.analysis import ENGLISH_ANALYZER, Analyzer
from core.columns import write_table
from core.errors import TriremeError
from core.filters.columns import ATTRIBUTES, AttributeColumns
from core.segment import DOCUMENTS, PASSAGES, SPARSE, Vectors
from core.segment_tables import StoredDocument, StoredPassage, document_table, passage_table
from core.similarity import COSINE
from core.sparse import Postings, write_postings
from core.vectors.sealing import write_vectors


def write_segment(
    directory: Path,
    documents: Sequence[StoredDocument],
    passages: Sequence[StoredPassage],
    vectors: Vectors,
    *,
    similarity: str = COSINE,
    postings: Postings | None = None,
    analyzer: Analyzer = ENGLISH_ANALYZER,
) -> tuple[Path, ...]:
    """Writes a segment's files into an existing directory, unsynced, and returns their paths.

    Documents must ascend by sequence, passages by document; `vectors` is float32 [passages,
    dimension], of length 1 for cosine similarity. A document may have no passage: it is then found
    by the lexical leg alone. `postings` make the learned-sparse part; None if there is none. Words
    are those of `analyzer`.
    """
    order = np.array([passage.document for passage in passages], np.int64)
    sequences = np.array([stored.sequence for stored in documents], np.int64)
    if (np.diff(order) < 0).any() or (np.diff(sequences) <= 0).any():
        raise TriremeError("documents and passages must be written in ascending order")
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise TriremeError(f"{len(passages)} passages need as many vectors, not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise TriremeError("a vector has components that are no finite numbers")
    if postings is not None and (postings.passages >= len(passages)).any():
        raise TriremeError("a term weighs in a passage that is not there")
    tables = document_table(documents, analyzer), passage_table(passages)
    attributes = AttributeColumns.of([stored.document.attributes for stored in documents])
    paths = write_tables(directory, *tables, attributes, postings)
    written = write_vectors(directory, [vectors], vectors.shape[1], similarity)
    return (*written.paths, *paths)


def write_tables(
    directory: Path,
    documents: pa.Table,
    passages: pa.Table,
    attributes: AttributeColumns,
    postings: Postings | None,
) -> tuple[Path, ...]:
    """Writes all but the vectors, from tables in the right order."""
    paths = [directory / name for name in (DOCUMENTS, PASSAGES, ATTRIBUTES)]
    write_table(documents, paths[0])
    write_table(passages, paths[1])
    attributes.write(paths[2])
    if postings is not None:
        paths.append(directory / SPARSE)
        write_postings(paths[-1], postings)
    return tuple(paths)
