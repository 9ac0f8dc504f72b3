"""What a segment's two tables hold, and how earlier formats are read as this one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.analysis import ENGLISH_ANALYZER, Analyzer
from core.documents import Document
from core.wire import attributes_from_json, document_to_bytes

DOCUMENT_COLUMNS = pa.schema(
    [
        ("sequence", pa.int64()),
        ("id", pa.large_string()),
        ("document", pa.large_binary()),
        ("key", pa.uint64()),
        ("length", pa.int32()),
        ("words", pa.large_list(pa.int64())),
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
# Formats 1 and 2 held a document's parts: a hit had to be put together every time it was read.
_DOCUMENT_COLUMNS_2 = pa.schema(
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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def key_of(document_id: str) -> int:
    """The 64-bit key under which documents are looked up by id; collisions are resolved by id."""
    return int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8).digest(), "big")


def keys_of(ids: Sequence[str]) -> NDArray[np.uint64]:
    """The keys of several ids."""
    return np.array([key_of(document_id) for document_id in ids], np.uint64)


def document_table(
    documents: Sequence[StoredDocument], analyzer: Analyzer = ENGLISH_ANALYZER
) -> pa.Table:
    """The rows of documents.arrow."""
    parts = [stored.document for stored in documents]
    analysed = [analyzer.words_of(part.title, part.text) for part in parts]
    values = np.concatenate([np.zeros(0, np.int64), *(words for words, _ in analysed)])
    offsets = np.cumsum([0, *(len(words) for words, _ in analysed)])
    columns = [
        pa.array([stored.sequence for stored in documents], pa.int64()),
        pa.array([part.id for part in parts], pa.large_string()),
        pa.array([document_to_bytes(part) for part in parts], pa.large_binary()),
        pa.array([key_of(part.id) for part in parts], pa.uint64()),
        pa.array([length for _, length in analysed], pa.int32()),
        pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values)),
    ]
    return pa.Table.from_arrays(columns, schema=DOCUMENT_COLUMNS)


def passage_table(passages: Sequence[StoredPassage]) -> pa.Table:
    """The rows of passages.arrow."""
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


def upgraded(documents: pa.Table) -> pa.Table:
    """A documents.arrow of format 1 or 2 as this format's; any other as it is."""
    if documents.schema != _DOCUMENT_COLUMNS_2:
        return documents
    return document_table([_stored(row) for row in documents.to_pylist()]).combine_chunks()


def _stored(row: dict[str, object]) -> StoredDocument:
    """A document from the columns of format 2."""
    document = Document(
        id=str(row["id"]),
        title=str(row["title"]),
        text=str(row["text"]),
        attributes=attributes_from_json(json.loads(str(row["attributes"]))),
        version=int(str(row["version"])),
        update_time=_EPOCH + timedelta(microseconds=int(str(row["update_time"]))),
    )
    return StoredDocument(int(str(row["sequence"])), document)
