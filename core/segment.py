"""The segment: an immutable set of documents with their passages and vectors. This file defines it.

    file             written by                 holds
    vectors.faiss    faiss.write_index          IndexFlatIP, one float32 vector per passage
    documents.arrow  Arrow IPC file, one batch  a row per document version, by ascending `sequence`
      sequence int64, id, version int64, title, text, attributes (JSON), update_time int64
      (microseconds since 1970), key uint64 (the first 8 bytes of BLAKE2b of the id)
    passages.arrow   Arrow IPC file, one batch  a row per vector, by ascending `document`
      document uint32 (row in documents.arrow), start_byte int32, end_byte int32 (in the UTF-8
      text), token_ids list<int32> (without special tokens)
    dead.bits        numpy.packbits, little     bit r set: document row r is not to be found

The first three never change. Deleting or replacing a document adds its row to a new `dead.bits`;
merging segments leaves dead rows behind. Files must be verified against the manifest before `open`:
FAISS loads one flipped bit in five without a word.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core import fsops
from core.documents import Document
from core.errors import CorruptFile, TriremeError
from core.ranking import count_with_ties
from core.wire import attributes_from_json, attributes_to_json

VECTORS = "vectors.faiss"
DOCUMENTS = "documents.arrow"
PASSAGES = "passages.arrow"
DEAD = "dead.bits"
FILES = (VECTORS, DOCUMENTS, PASSAGES)

DOCUMENT_COLUMNS = pa.schema(
    [
        ("sequence", pa.int64()),
        ("id", pa.large_string()),
        ("version", pa.int64()),
        ("title", pa.large_string()),
        ("text", pa.large_string()),
        ("attributes", pa.large_string()),
        ("update_time", pa.int64()),
        ("key", pa.uint64()),
    ]
)
PASSAGE_COLUMNS = pa.schema(
    [
        ("document", pa.uint32()),
        ("start_byte", pa.int32()),
        ("end_byte", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
    ]
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Sums of products differ in their last bits with the place of a vector in its block; scores are
# rounded to this many decimals so that equal vectors tie wherever they lie.
_SCORE_DECIMALS = 6
_ROWS_AT_A_TIME = 8192

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document version under the sequence number of the change that wrote it."""

    sequence: int
    document: Document


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A part of a document: `document` is its index in the documents written with it."""

    document: int
    start_byte: int
    end_byte: int
    token_ids: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as found: its bytes in the document's UTF-8 text and its token ids."""

    start_byte: int
    end_byte: int
    token_ids: NDArray[np.int32]


def key_of(document_id: str) -> int:
    """The 64-bit key under which documents are looked up by id; collisions are resolved by id."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "big")


def keys_of(ids: Sequence[str]) -> NDArray[np.uint64]:
    """The keys of several ids."""
    return np.array([key_of(document_id) for document_id in ids], np.uint64)


def write_segment(
    directory: Path,
    documents: Sequence[StoredDocument],
    passages: Sequence[StoredPassage],
    vectors: Vectors,
) -> tuple[Path, ...]:
    """Writes a segment's files into an existing directory, unsynced, and returns their paths.

    Documents must ascend by sequence, passages by document; `vectors` is float32 [passages,
    dimension], normalised. A document may have no passage: it is then found by the lexical leg
    alone.
    """
    order = np.array([passage.document for passage in passages], np.int64)
    sequences = np.array([stored.sequence for stored in documents], np.int64)
    if (np.diff(order) < 0).any() or (np.diff(sequences) <= 0).any():
        raise TriremeError("documents and passages must be written in ascending order")
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise TriremeError(f"{len(passages)} passages need as many vectors, not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise TriremeError("a vector has components that are no finite numbers")
    return _write(directory, _document_table(documents), _passage_table(passages), vectors)


def merge_segments(segments: Sequence[Segment], directory: Path) -> tuple[Path, ...]:
    """Writes one segment with the live rows of several; vectors are copied as they are."""
    documents = pa.concat_tables([s.documents.take(pa.array(s.live_rows)) for s in segments])
    by_sequence = np.argsort(documents["sequence"].to_numpy(), kind="stable")
    place = np.empty(len(by_sequence), np.uint32)
    place[by_sequence] = np.arange(len(by_sequence), dtype=np.uint32)
    starts = np.cumsum([0, *(len(s.live_rows) for s in segments)])
    parts = [_live_passages(s, place[a:]) for s, a in zip(segments, starts, strict=False)]
    passages = pa.concat_tables([part[0] for part in parts])
    by_document = np.argsort(passages["document"].to_numpy(), kind="stable")
    vectors = np.concatenate([part[1] for part in parts])[by_document]
    return _write(
        directory,
        documents.take(pa.array(by_sequence)),
        passages.take(pa.array(by_document)),
        vectors,
    )


def nearest_documents(
    segments: Sequence[Segment], vector: Vectors, limit: int
) -> tuple[list[int], list[float]]:
    """The live documents whose best passages are most similar to `vector`, best first.

    Returns places and scores of the best `limit` documents and of all that tie with the last; a
    place is a document's row, counted on through the segments.
    """
    starts = np.cumsum([0, *(len(segment.ids) for segment in segments)])
    live = [segment.live_passages for segment in segments]
    wanted = [_first_guess(segment, limit) for segment in segments]
    parts = [s.nearest_passages(vector, count) for s, count in zip(segments, wanted, strict=True)]
    while True:
        scores = np.concatenate([np.zeros(0, np.float32), *(part[0] for part in parts)])
        places = np.concatenate(
            [
                np.zeros(0, np.int64),
                *(p[1] + start for p, start in zip(parts, starts, strict=False)),
            ]
        )
        order = np.argsort(-scores, kind="stable")
        best = order[np.sort(np.unique(places[order], return_index=True)[1])]
        found = scores[best].tolist()
        least = found[limit - 1] if len(found) >= limit else -np.inf
        cut_short = [
            n for n, part in enumerate(parts) if wanted[n] < live[n] and part[0][-1] >= least
        ]
        if not cut_short:
            kept = count_with_ties(found, limit)
            return places[best[:kept]].tolist(), found[:kept]
        for n in cut_short:
            wanted[n] = min(live[n], wanted[n] * 4)
            parts[n] = segments[n].nearest_passages(vector, wanted[n])


def _first_guess(segment: Segment, limit: int) -> int:
    """How many passages to look at first, so that most often they hold `limit` documents."""
    live, documents = segment.live_passages, max(1, len(segment.live_rows))
    return min(live, limit + 8 + limit * max(0, live - documents) // documents // 2)


def pack_dead(dead: NDArray[np.bool_]) -> bytes:
    """The content of dead.bits for one truth value per document row."""
    return np.packbits(dead, bitorder="little").tobytes()


class Segment:
    """An open segment, immutable and safe to share between threads.

    `ids` holds the id of every document row, `dead` one truth value per row, `live_rows` the rows
    that are not dead, ascending.
    """

    def __init__(
        self, documents: pa.Table, passages: pa.Table, index: Any, dead: NDArray[np.bool_]
    ) -> None:
        self.documents = documents
        self.passages = passages
        self.ids = _all_strings(documents, "id")
        self._index = index
        self._passage_document = _column(passages, "document")
        self._starts = _column(passages, "start_byte")
        self._ends = _column(passages, "end_byte")
        self._sequences = _column(documents, "sequence")
        self._versions = _column(documents, "version")
        self._update_times = _column(documents, "update_time")
        self._text = {name: _Strings(documents, name) for name in ("title", "text", "attributes")}
        self._first = np.searchsorted(self._passage_document, np.arange(len(documents) + 1))
        keys = _column(documents, "key")
        self._by_key = np.argsort(keys, kind="stable")
        self._keys = keys[self._by_key]
        self._bury(dead)

    def _bury(self, dead: NDArray[np.bool_]) -> None:
        self.dead = dead
        self.live_rows: Rows = np.flatnonzero(~dead)
        self.dead_passages = int(np.diff(self._first)[dead].sum())
        self._selector, self._parameters = _selection(self._passage_document, dead)

    @classmethod
    def open(cls, paths: Mapping[str, Path], dead: Path | None = None) -> Segment:
        """Opens verified files, by their names; columns are mapped, vectors are read into memory.

        Raises CorruptFile if they are not a segment.
        """
        try:
            index = faiss.read_index(str(paths[VECTORS]))
            documents = _read_table(paths[DOCUMENTS])
            passages = _read_table(paths[PASSAGES])
            bits = _read_dead(dead, documents.num_rows)
        except (OSError, RuntimeError, MemoryError, pa.ArrowException, ValueError) as error:
            raise CorruptFile(f"cannot open the segment: {error}") from error
        if documents.schema != DOCUMENT_COLUMNS or passages.schema != PASSAGE_COLUMNS:
            raise CorruptFile("the segment does not have this version's columns")
        if index.ntotal != passages.num_rows or type(index) is not faiss.IndexFlatIP:
            raise CorruptFile("the segment's vectors and passages are not of one length")
        return cls(documents, passages, index, bits)

    def with_dead(self, dead: Path | None) -> Segment:
        """The same segment with another set of dead documents; nothing is opened again."""
        segment = copy.copy(self)
        try:
            segment._bury(_read_dead(dead, self.documents.num_rows))
        except OSError as error:
            raise CorruptFile(f"cannot read {dead}: {error}") from error
        return segment

    @property
    def dimension(self) -> int:
        """Components per vector."""
        return int(self._index.d)

    @cached_property
    def vectors(self) -> Vectors:
        """All vectors, float32 [passages, dimension], as they lie in the index: read only."""
        count = self._index.ntotal
        if not count:
            return np.zeros((0, self.dimension), np.float32)
        flat = faiss.rev_swig_ptr(self._index.get_xb(), count * self.dimension)
        flat.flags.writeable = False
        return flat.reshape(count, self.dimension)

    @property
    def live_passages(self) -> int:
        """Passages of documents that are not dead."""
        return int(self._index.ntotal) - self.dead_passages

    def nearest_passages(self, vector: Vectors, count: int) -> tuple[Vectors, Rows]:
        """Scores of the `count` live passages most similar to `vector`, best first, and their rows.

        `count` is at most `live_passages`; a row is that of the passage's document.
        """
        if not count:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        scores, passages = self._index.search(vector.reshape(1, -1), count, params=self._parameters)
        return np.round(scores[0], _SCORE_DECIMALS), self._passage_document[passages[0]]

    @property
    def sequences(self) -> Rows:
        """The sequence number of every document row, ascending."""
        return self._sequences

    def find_sequences(self, sequences: Rows) -> Rows:
        """The row of each sequence number, -1 where it is not here or dead."""
        if not len(self._sequences):
            return np.full(len(sequences), -1)
        rows = np.minimum(np.searchsorted(self._sequences, sequences), len(self._sequences) - 1)
        found = (self._sequences[rows] == sequences) & ~self.dead[rows]
        return np.where(found, rows, -1)

    def find(self, document_id: str) -> int | None:
        """The row of a live document, None if it is not here."""
        row = int(self.find_ids([document_id], keys_of([document_id]))[0])
        return row if row >= 0 else None

    def find_ids(self, ids: Sequence[str], keys: NDArray[np.uint64]) -> Rows:
        """The row of each live document, -1 where it is not here; `keys` are `keys_of(ids)`."""
        rows = np.full(len(ids), -1)
        own_keys, by_key = self._keys, self._by_key
        if not len(own_keys):
            return rows
        places = np.searchsorted(own_keys, keys)
        hits = own_keys[np.minimum(places, len(own_keys) - 1)] == keys
        for number in np.flatnonzero(hits).tolist():
            place = int(places[number])
            while place < len(own_keys) and own_keys[place] == keys[number]:
                row = by_key[place]
                if not self.dead[row] and self.ids[row] == ids[number]:
                    rows[number] = row
                place += 1
        return rows

    def read(self, row: int) -> StoredDocument:
        """One document as it was stored."""
        attributes = self._text["attributes"][row]
        document = Document(
            id=self.ids[row],
            title=self._text["title"][row],
            text=self._text["text"][row],
            attributes=attributes_from_json(json.loads(attributes)) if attributes != "{}" else {},
            version=int(self._versions[row]),
            update_time=_EPOCH + timedelta(microseconds=int(self._update_times[row])),
        )
        return StoredDocument(int(self._sequences[row]), document)

    def best_passage(self, row: int, vector: Vectors | None) -> Passage | None:
        """The passage of a document most similar to `vector`, or its first; None if it has none."""
        first, end = int(self._first[row]), int(self._first[row + 1])
        if first == end:
            return None
        place = first
        if vector is not None and end - first > 1:
            place += int(np.argmax(np.round(self.vectors[first:end] @ vector, _SCORE_DECIMALS)))
        offsets, tokens = self._tokens
        return Passage(
            start_byte=int(self._starts[place]),
            end_byte=int(self._ends[place]),
            token_ids=tokens[offsets[place] : offsets[place + 1]],
        )

    @cached_property
    def _tokens(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        lists = self.passages["token_ids"].chunk(0)
        return lists.offsets.to_numpy(), lists.values.to_numpy()

    def __repr__(self) -> str:
        return (
            f"<Segment {len(self.documents)} documents, {int(self.dead.sum())} dead, "
            f"{len(self.passages)} passages>"
        )


class _Strings:
    """A column of strings, read without Arrow's cost per value."""

    def __init__(self, table: pa.Table, name: str) -> None:
        if not table.num_rows:
            self._offsets, self._bytes = np.zeros(1, np.int64), memoryview(b"")
            return
        _, offsets, data = table[name].chunk(0).buffers()
        self._offsets = np.frombuffer(offsets, np.int64, table.num_rows + 1)
        self._bytes = memoryview(data or b"")

    def __getitem__(self, row: int) -> str:
        return str(self._bytes[self._offsets[row] : self._offsets[row + 1]], "utf-8")


def _all_strings(table: pa.Table, name: str) -> list[str]:
    """A column of strings as a list, made in parts: other threads get their turn in between."""
    strings: list[str] = []
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        strings += table[name].slice(start, _ROWS_AT_A_TIME).to_pylist()
    return strings


def _document_table(documents: Sequence[StoredDocument]) -> pa.Table:
    rows = [
        {
            "sequence": stored.sequence,
            "id": stored.document.id,
            "version": stored.document.version,
            "title": stored.document.title,
            "text": stored.document.text,
            "attributes": json.dumps(attributes_to_json(stored.document.attributes)),
            "update_time": ((stored.document.update_time or _EPOCH) - _EPOCH)
            // timedelta(microseconds=1),
            "key": key_of(stored.document.id),
        }
        for stored in documents
    ]
    return pa.Table.from_pylist(rows, DOCUMENT_COLUMNS)


def _passage_table(passages: Sequence[StoredPassage]) -> pa.Table:
    lengths = [len(passage.token_ids) for passage in passages]
    tokens = np.concatenate([np.zeros(0, np.int32), *(p.token_ids for p in passages)])
    offsets = np.cumsum([0, *lengths]).astype(np.int32)
    columns = [
        pa.array([passage.document for passage in passages], pa.uint32()),
        pa.array([passage.start_byte for passage in passages], pa.int32()),
        pa.array([passage.end_byte for passage in passages], pa.int32()),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens, pa.int32())),
    ]
    return pa.Table.from_arrays(columns, schema=PASSAGE_COLUMNS)


def _live_passages(segment: Segment, place: NDArray[np.uint32]) -> tuple[pa.Table, Vectors]:
    """A segment's live passages under their new document rows: `place` of the nth live document."""
    new_row = np.zeros(len(segment.documents), np.uint32)
    new_row[segment.live_rows] = place[: len(segment.live_rows)]
    document = _column(segment.passages, "document")
    live = np.flatnonzero(~segment.dead[document])
    table = segment.passages.take(pa.array(live))
    table = table.set_column(0, "document", pa.array(new_row[document[live]]))
    return table, segment.vectors[live]


def _write(
    directory: Path, documents: pa.Table, passages: pa.Table, vectors: Vectors
) -> tuple[Path, ...]:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    paths = tuple(directory / name for name in FILES)
    # faiss.write_index would only print that the last block did not fit on the disk.
    fsops.write_file(paths[0], faiss.serialize_index(index).data)
    _write_table(documents, paths[1])
    _write_table(passages, paths[2])
    return paths


def _write_table(table: pa.Table, path: Path) -> None:
    with fsops.storage_errors(path), pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.combine_chunks())


def _read_table(path: Path) -> pa.Table:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.num_rows == 0:
        return table.schema.empty_table()
    if table.column(0).num_chunks != 1:
        raise ValueError(f"{path.name} has more than one batch")
    return table


def _read_dead(path: Path | None, documents: int) -> NDArray[np.bool_]:
    if path is None:
        return np.zeros(documents, np.bool_)
    bits = np.frombuffer(path.read_bytes(), np.uint8)
    if len(bits) != (documents + 7) // 8:
        raise CorruptFile(f"{path.name} does not fit the segment")
    return np.unpackbits(bits, count=documents, bitorder="little").astype(np.bool_)


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    column = table[name]
    if column.num_chunks == 0:
        return np.zeros(0, column.type.to_pandas_dtype())
    values: NDArray[Any] = column.chunk(0).to_numpy(zero_copy_only=True)
    return values


def _selection(document: NDArray[np.uint32], dead: NDArray[np.bool_]) -> tuple[Any, Any]:
    """The bitmap of live passages and FAISS's parameters that use it; None while all are alive."""
    if not dead.any():
        return None, None
    live = np.packbits(~dead[document], bitorder="little")
    selector = faiss.IDSelectorBitmap(len(document), faiss.swig_ptr(live))
    return live, faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
