"""Where the queries of a load come from."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import grpc

from core.errors import BadEnvironment
from trireme.v1 import document_pb2, document_pb2_grpc

SAMPLE = 200
_QUERY_WORDS = 8
_SECONDS = 30.0


def read_queries(path: Path) -> tuple[str, ...]:
    """Queries of a BEIR folder, of JSON lines with `text`, or one per line; plain or .gz.

    Raises BadEnvironment if there is none.
    """
    try:
        found = tuple(_lines(_of_folder(path) if path.is_dir() else path))
    except (OSError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise BadEnvironment(
            f"cannot be read as queries: {error!r}",
            field=str(path),
            remedy="give one query per line, JSON lines with `text`, or a BEIR folder",
        ) from error
    if not found:
        raise BadEnvironment("holds no query", field=str(path))
    return found


def sample_queries(channel: grpc.Channel, collection: str) -> tuple[str, ...]:
    """Titles and first words of some stored documents.

    Such queries find their own document at once; real ones say more about quality, not about load.
    Raises BadEnvironment if the collection is empty, grpc.RpcError.
    """
    request = document_pb2.ListDocumentsRequest(collection=collection, page_size=SAMPLE)
    reply = document_pb2_grpc.DocumentServiceStub(channel).ListDocuments(request, timeout=_SECONDS)
    texts = (" ".join((each.title or each.text).split()[:_QUERY_WORDS]) for each in reply.documents)
    found = tuple(text for text in texts if text)
    if not found:
        raise BadEnvironment(
            "has no document to make queries of", field=collection, remedy="give --queries"
        )
    return found


def _of_folder(folder: Path) -> Path:
    """The queries of a collection in BEIR layout."""
    plain = folder / "queries.jsonl"
    return plain if plain.exists() else folder / "queries.jsonl.gz"


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    is_json = ".jsonl" in path.suffixes
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line := line.strip():
                yield str(json.loads(line)["text"]) if is_json else line
