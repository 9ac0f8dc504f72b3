"""JSON lines to documents."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.documents import Document, check_document
from core.errors import InvalidInput
from core.wire import attributes_from_json

GZIP_MAGIC = b"\x1f\x8b"
_OWN_KEYS = ("_id", "id", "title", "text")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its number from 1, its document, the bytes of the file read so far."""

    number: int
    document: Document
    bytes_read: int


def read_documents(path: Path, *, after_line: int = 0, skip_empty: bool = False) -> Iterator[Line]:
    """The documents of a JSON-lines file, plain or gzip, from the line after `after_line` on.

    `skip_empty` leaves out those with neither title nor text, which are not acceptable otherwise.
    Raises InvalidInput naming file, line and field for the first line that is not acceptable,
    OSError if the file cannot be read.
    """
    with path.open("rb") as raw:
        for number, text in enumerate(_lines(raw), start=1):
            if number <= after_line or not text.strip():
                continue
            where = f"{path}:{number}"
            document = document_from_json(_parsed(text, where), where)
            if skip_empty and not (document.title.strip() or document.text.strip()):
                continue
            check_document(document, where)
            yield Line(number, document, raw.tell())


def document_from_json(values: Mapping[str, Any], where: str) -> Document:
    """A document from one JSON object: `_id` or `id`, `title`, `text`, the rest are attributes."""
    return Document(
        id=_id(values.get("_id", values.get("id", "")), where),
        title=_text(values.get("title"), f"{where}: title"),
        text=_text(values.get("text"), f"{where}: text"),
        attributes=attributes_from_json(
            {
                name: _attribute(value)
                for name, value in values.items()
                if name not in _OWN_KEYS and value not in (None, {}, [])
            }
        ),
    )


def _lines(raw: BinaryIO) -> Iterator[bytes]:
    magic = raw.read(2)
    raw.seek(0)
    stream: Any = gzip.GzipFile(fileobj=raw) if magic == GZIP_MAGIC else raw
    yield from io.BufferedReader(stream) if stream is not raw else raw


def _parsed(text: bytes, where: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "NOT_UTF8", f"is not UTF-8: {error.reason}", field=where, remedy="convert the file"
        ) from error
    except ValueError as error:
        raise InvalidInput(
            "MALFORMED", f"is not JSON: {error}", field=where, remedy="write one object per line"
        ) from error
    if not isinstance(values, dict):
        raise InvalidInput("MALFORMED", "is not a JSON object", field=where)
    return values


def _id(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput("MALFORMED", "is neither text nor a number", field=f"{where}: _id")
    return str(value)


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput("MALFORMED", f"is a {type(value).__name__}, not text", field=where)
    return value


def _attribute(value: Any) -> Any:
    """Text, numbers, truth values and lists of texts as they are; anything else as JSON text."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
