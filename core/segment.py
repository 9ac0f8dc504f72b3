"""The segment: an immutable set of documents with their passages and vectors. This file defines it.

    file             written by                 holds
    vectors.faiss    faiss.write_index          an index of one of `vectors.kinds` with one vector
                                                per passage; a flat one holds these in full
    vectors.f32      `vectors.stored`           the vectors beside an index that is not flat; or
                                                vectors.f16 or vectors.i8
    documents.arrow  Arrow IPC file, one batch  a row per document version, by ascending `sequence`
      sequence int64, id, document (a serialised trireme.v1.Document), key uint64 (the first 8
      bytes of BLAKE2b of the id), length int32 (words of title and text), words list<int64> (the
      distinct ones, see `analysis`)
    passages.arrow   Arrow IPC file, one batch  a row per vector, by ascending `document`
      document uint32 (row in documents.arrow), start_byte int32, end_byte int32 (in the UTF-8
      text), token_ids list<int32> (without special tokens)
    sparse.arrow     Arrow IPC file, one batch  a row per term of the learned-sparse leg, see
                                                `sparse`; only in collections that have that leg
    attributes.arrow Arrow IPC file, one batch  a row per attribute and type, see `filters.columns`;
                                                formats 1 to 3 do not have it
    dead.bits        numpy.packbits, little     bit r set: document row r is not to be found

All but the last never change. Deleting or replacing a document adds its row to a new `dead.bits`;
merging segments leaves dead rows behind. Files must be verified against the manifest before `open`:
FAISS loads one flipped bit in five without a word.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.columns import (
    ArrowFailure,
    Blobs,
    Strings,
    column,
    lists,
    read_table,
)
from core.errors import CorruptFile
from core.filters.columns import ATTRIBUTES, AttributeColumns
from core.filters.filtering import DocumentFilter
from core.filters.tree import Node
from core.masks import Truth
from core.segment_tables import (
    DOCUMENT_COLUMNS,
    PASSAGE_COLUMNS,
    StoredDocument,
    key_of,
    upgraded,
)
from core.sparse import SparsePart
from core.vectors.index import INDEX_FILE, VectorIndex
from core.vectors.recall import found_of_nearest
from core.vectors.selection import Selection
from core.wire import document_from_bytes

VECTORS = INDEX_FILE
DOCUMENTS = "documents.arrow"
PASSAGES = "passages.arrow"
SPARSE = "sparse.arrow"
DEAD = "dead.bits"
FILES = (VECTORS, DOCUMENTS, PASSAGES)

_NO_SCORES = np.zeros(0, np.float32)
_NO_ROWS = np.zeros(0, np.int64)
Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as found: its bytes in the document's UTF-8 text and its token ids."""

    start_byte: int
    end_byte: int
    token_ids: NDArray[np.int32]


def pack_dead(dead: NDArray[np.bool_]) -> bytes:
    """The content of dead.bits for one truth value per document row."""
    return np.packbits(dead, bitorder="little").tobytes()


class Segment:
    """An open segment, immutable and safe to share between threads.

    `ids` and `lengths` hold those of every document row, `words` offsets and values of its words,
    `dead` one truth value per row, `live_rows` the rows that are not dead, ascending, `live_length`
    how many words these have, `live_passages` how many passages.
    """

    def __init__(
        self,
        documents: pa.Table,
        passages: pa.Table,
        index: VectorIndex,
        sparse: SparsePart | None,
        filter: DocumentFilter,
        dead: NDArray[np.bool_],
    ) -> None:
        self.documents = documents
        self.passages = passages
        self.sparse = sparse
        self.filter = filter
        self.ids = Strings(documents, "id")
        self.index = index
        self._passage_document = column(passages, "document")
        self._starts = column(passages, "start_byte")
        self._ends = column(passages, "end_byte")
        self._sequences = column(documents, "sequence")
        self._serialised = Blobs(documents, "document")
        self.lengths = column(documents, "length")
        self.words = lists(documents, "words")
        self._first = np.searchsorted(self._passage_document, np.arange(len(documents) + 1))
        keys = column(documents, "key")
        self._by_key = np.argsort(keys, kind="stable")
        self._keys = keys[self._by_key]
        self._sorted_keys = self._keys.data
        self._bury(dead)

    def _bury(self, dead: NDArray[np.bool_]) -> None:
        self.dead = dead
        self.live_rows: Rows = np.flatnonzero(~dead)
        self.live_length = int(self.lengths[self.live_rows].sum())
        self.dead_passages = int(np.diff(self._first)[dead].sum())
        self.live_passages = len(self.index) - self.dead_passages
        self._selection = Selection(~dead[self._passage_document]) if dead.any() else None
        self._narrowed: tuple[Truth, Selection] | None = None

    @classmethod
    def open(
        cls, paths: Mapping[str, Path], dead: Path | None = None, *, effort: int = 0
    ) -> Segment:
        """Opens verified files, by their names; all are mapped, not read into memory.

        `effort` is that of the manifest's IndexEntry. Raises CorruptFile if they are not a segment.
        """
        try:
            index = VectorIndex.open(paths, effort)
            documents = upgraded(read_table(paths[DOCUMENTS]))
            passages = read_table(paths[PASSAGES])
            sparse = SparsePart.open(paths[SPARSE], len(passages)) if SPARSE in paths else None
            filter = _filter(documents, paths.get(ATTRIBUTES))
            bits = _read_dead(dead, documents.num_rows)
        except (OSError, RuntimeError, MemoryError, ArrowFailure, ValueError) as error:
            raise CorruptFile(f"cannot open the segment: {error}") from error
        if documents.schema != DOCUMENT_COLUMNS or passages.schema != PASSAGE_COLUMNS:
            raise CorruptFile("the segment does not have this version's columns")
        if len(index) != passages.num_rows:
            raise CorruptFile("the segment's vectors and passages are not of one length")
        return cls(documents, passages, index, sparse, filter, bits)

    def with_dead(self, dead: Path | None) -> Segment:
        """The same segment with another set of dead documents; nothing is opened again."""
        segment = copy.copy(self)
        try:
            segment._bury(_read_dead(dead, self.documents.num_rows))
        except OSError as error:
            raise CorruptFile(f"cannot read {dead}: {error}") from error
        return segment

    def placed(self, place: Callable[[VectorIndex], VectorIndex]) -> Segment:
        """The same segment, with its vectors searched where `place` puts them."""
        segment = copy.copy(self)
        segment.index = place(self.index)
        return segment

    @property
    def dimension(self) -> int:
        """Components per vector."""
        return self.index.dimension

    @property
    def similarity(self) -> str:
        """How vectors are compared; "dot" for cosine too."""
        return self.index.similarity

    @property
    def vectors(self) -> Vectors:
        """All vectors, float32 [passages, dimension]."""
        return self.index.decoded(slice(None))

    def matching(self, node: Node) -> Truth:
        """Which documents match a filter, bool [documents]; never a dead one."""
        return self.filter.matching(node) & ~self.dead

    @property
    def postings(self) -> int:
        """Weights in the learned-sparse part, those of dead passages included."""
        return self.sparse.postings if self.sparse is not None else 0

    @property
    def live_passage_rows(self) -> Rows:
        """Their rows, ascending."""
        return np.flatnonzero(~self.dead[self._passage_document])

    def passages_of(self, allowed: Truth | None) -> int:
        """How many passages the documents that are true in `allowed` have; None: all that live."""
        if allowed is None:
            return self.live_passages
        return int(np.diff(self._first)[allowed].sum())

    def nearest_passages(
        self, vector: Vectors, count: int, allowed: Truth | None = None
    ) -> tuple[Vectors, Rows]:
        """Scores of the `count` live passages most similar to `vector`, best first, and their rows.

        Scores are not rounded yet. Only documents that are true in `allowed` count, None: all that
        live; `count` is at most `passages_of(allowed)`. A row is that of the passage's document.
        """
        if not count:
            return _NO_SCORES, _NO_ROWS
        scores, passages = self.index.search(vector, count, self._select(allowed))
        return scores, self._passage_document[passages]

    def measure_recall(self, vector: Vectors) -> tuple[int, int]:
        """How many of how many nearest live passages a search finds; 0 of 0 if it is exact."""
        if self.index.is_exact:
            return 0, 0
        return found_of_nearest(self.index, vector, self._selection)

    def dense_strategy(self, count: int, allowed: Truth | None) -> str:
        """How `nearest_passages` finds them: EXACT, SELECTOR or OVER_FETCH of `masks`."""
        return self.index.strategy(count, self._select(allowed))

    def _select(self, allowed: Truth | None) -> Selection | None:
        """The passages of documents that are true in `allowed`; that of the last is remembered."""
        if allowed is None:
            return self._selection
        narrowed = self._narrowed
        if narrowed is None or narrowed[0] is not allowed:
            narrowed = self._narrowed = allowed, Selection(allowed[self._passage_document])
        return narrowed[1]

    def weigh_passages(
        self, terms: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Each passage's inner product with a sparse query, dead ones too; 0 without that part."""
        if self.sparse is None:
            return np.zeros(len(self.passages))
        return self.sparse.scores(terms, weights)

    def weigh_documents(
        self,
        terms: NDArray[np.int32],
        weights: NDArray[np.float32],
        allowed: Truth | None = None,
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Rows and scores, by their best passages, of the live documents with any of the terms.

        Only documents that are true in `allowed`, if that is given.
        """
        by_passage = self.weigh_passages(terms, weights)
        found = np.flatnonzero(by_passage)
        rows, first = np.unique(self._passage_document[found], return_index=True)
        if not len(rows):
            return np.zeros(0, np.int64), np.zeros(0)
        scores = np.maximum.reduceat(by_passage[found], first)
        alive = ~self.dead[rows] if allowed is None else allowed[rows]
        return rows[alive].astype(np.int64), scores[alive]

    @property
    def sequences(self) -> Rows:
        """The sequence number of every document row, ascending."""
        return self._sequences

    def find(self, document_id: str) -> int | None:
        """The row of a live document, None if it is not here."""
        key = key_of(document_id)
        row = self._row_of(document_id, key, bisect_left(self._sorted_keys, key), dead_too=False)
        return row if row >= 0 else None

    def find_ids(
        self, ids: Sequence[str], keys: NDArray[np.uint64], *, dead_too: bool = False
    ) -> Rows:
        """The row of each live document, -1 where it is not here; `keys` are `keys_of(ids)`.

        With `dead_too` that of its newest version, whether it is alive or not.
        """
        rows = np.full(len(ids), -1)
        own_keys = self._keys
        if not len(own_keys):
            return rows
        places = np.searchsorted(own_keys, keys)
        hits = own_keys[np.minimum(places, len(own_keys) - 1)] == keys
        for number in np.flatnonzero(hits).tolist():
            key, place = int(keys[number]), int(places[number])
            rows[number] = self._row_of(ids[number], key, place, dead_too=dead_too)
        return rows

    def _row_of(self, document_id: str, key: int, place: int, *, dead_too: bool) -> int:
        """The last row of an id, -1 if there is none; its `key`'s begin at this place of theirs."""
        keys, found = self._sorted_keys, -1
        while place < len(keys) and keys[place] == key:
            row = int(self._by_key[place])
            if (dead_too or not self.dead[row]) and self.ids[row] == document_id:
                found = row
            place += 1
        return found

    def read(self, row: int) -> StoredDocument:
        """One document as it was stored."""
        document = document_from_bytes(self.serialised(row))
        return StoredDocument(int(self._sequences[row]), document)

    def serialised(self, row: int) -> bytes:
        """One document as callers see it: a trireme.v1.Document."""
        return self._serialised[row]

    def best_passage(
        self, row: int, vector: Vectors | None, weighed: NDArray[np.float64] | None = None
    ) -> Passage | None:
        """The passage of a document that answers best; None if it has none.

        That is the one most similar to `vector`, else the one that `weigh_passages` weighed most,
        else the first.
        """
        first, end = int(self._first[row]), int(self._first[row + 1])
        if first == end:
            return None
        place = first
        if vector is not None and end - first > 1:
            place += int(np.argmax(self.index.scores_of(slice(first, end), vector)))
        elif weighed is not None:
            place += int(np.argmax(weighed[first:end]))
        offsets, tokens = self._tokens
        return Passage(
            start_byte=int(self._starts[place]),
            end_byte=int(self._ends[place]),
            token_ids=tokens[offsets[place] : offsets[place + 1]],
        )

    @cached_property
    def _tokens(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return lists(self.passages, "token_ids")

    def __repr__(self) -> str:
        return (
            f"<Segment {len(self.documents)} documents, {int(self.dead.sum())} dead, "
            f"{len(self.passages)} passages>"
        )


def _filter(documents: pa.Table, path: Path | None) -> DocumentFilter:
    opened = (
        partial(_derived, documents) if path is None else partial(_stored, path, len(documents))
    )
    return DocumentFilter(opened, documents["id"], is_stored=path is not None)


def _stored(path: Path, documents: int) -> AttributeColumns:
    try:
        return AttributeColumns.open(path, documents)
    except (OSError, ArrowFailure, ValueError) as error:
        raise CorruptFile(f"cannot open the segment's attributes: {error}") from error


def _derived(documents: pa.Table) -> AttributeColumns:
    """The attributes of a segment of an earlier format: every document is read."""
    stored = Blobs(documents, "document")
    return AttributeColumns.of(
        [document_from_bytes(stored[row]).attributes for row in range(len(documents))]
    )


def _read_dead(path: Path | None, documents: int) -> NDArray[np.bool_]:
    if path is None:
        return np.zeros(documents, np.bool_)
    bits = np.frombuffer(path.read_bytes(), np.uint8)
    if len(bits) != (documents + 7) // 8:
        raise CorruptFile(f"{path.name} does not fit the segment")
    return np.unpackbits(bits, count=documents, bitorder="little").astype(np.bool_)
