"""Documents, positions and what is acceptable in them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from core.errors import InvalidInput

MAX_BATCH_DOCUMENTS = 256
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_ID_BYTES = 512
MAX_TITLE_BYTES = 4096
MAX_TEXT_BYTES = 1024 * 1024
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_NAME_BYTES = 128
MAX_ATTRIBUTE_BYTES = 4096
MAX_LIST_VALUES = 256

AttributeValue = str | float | bool | datetime | tuple[str, ...]
"""A string, number, truth value, moment (aware, UTC) or list of strings."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `version` and `update_time` are set once it is stored."""

    id: str
    title: str = ""
    text: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    version: int = 0
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """How far a collection's change feed has come: shard number to sequence number."""

    sequences: Mapping[int, int] = field(default_factory=dict)


def shard_of(document_id: str, shard_count: int) -> int:
    """The shard that holds a document: stable over machines, versions and restarts."""
    digest = hashlib.blake2b(document_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard_count


def check_batch(documents: Sequence[Document]) -> None:
    """Raises InvalidInput for the first thing that is not acceptable in a batch."""
    check_count(len(documents), "documents")
    seen: set[str] = set()
    batch_bytes = 0
    for index, document in enumerate(documents):
        path = f"documents[{index}]"
        batch_bytes += check_document(document, path)
        if document.id in seen:
            raise InvalidInput(
                "DUPLICATE_ID",
                f"{document.id!r} stands twice in this batch",
                field=f"{path}.id",
                remedy="send each id once per batch",
            )
        seen.add(document.id)
    if batch_bytes > MAX_BATCH_BYTES:
        raise InvalidInput(
            "TOO_LONG",
            f"the batch has {batch_bytes:,} bytes of text, the limit is {MAX_BATCH_BYTES:,}",
            field="documents",
            remedy="send smaller batches",
        )


def check_ids(ids: Sequence[str]) -> None:
    """Raises InvalidInput unless `ids` are 1 to 256 distinct acceptable ids."""
    check_count(len(ids), "ids")
    for index, document_id in enumerate(ids):
        check_id(document_id, f"ids[{index}]")
    if len(set(ids)) != len(ids):
        raise InvalidInput("DUPLICATE_ID", "an id stands twice", field="ids")


def check_count(count: int, path: str, limit: int = MAX_BATCH_DOCUMENTS) -> None:
    """Raises InvalidInput unless a list has 1 to `limit` members."""
    if count == 0:
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=path, remedy="send at least one")
    if count > limit:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"has {count} members, the limit is {limit}",
            field=path,
            remedy="send fewer at a time",
        )


def check_document(document: Document, path: str) -> int:
    """Raises InvalidInput if the document is not acceptable; returns its bytes of text."""
    size = check_id(document.id, f"{path}.id")
    size += check_text(document.title, MAX_TITLE_BYTES, f"{path}.title")
    size += check_text(document.text, MAX_TEXT_BYTES, f"{path}.text")
    if not document.text.strip() and not document.title.strip():
        raise InvalidInput(
            "FIELD_REQUIRED",
            f"document {document.id!r} has neither text nor title",
            field=f"{path}.text",
            remedy="give it a text, or leave it out",
        )
    return size + check_attributes(document.attributes, f"{path}.attributes")


def check_id(document_id: str, path: str) -> int:
    """Raises InvalidInput unless this can be a document's id; returns its bytes."""
    if not document_id:
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field=path, remedy="give every document an id"
        )
    return check_text(document_id, MAX_ID_BYTES, path)


def check_text(text: str, limit: int, path: str) -> int:
    """Raises InvalidInput if a text is too long, holds NUL or is not Unicode; returns its bytes."""
    if "\x00" in text:
        raise InvalidInput("NOT_UTF8", "holds a NUL character", field=path, remedy="remove it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "NOT_UTF8",
            f"has no UTF-8 form at character {error.start}",
            field=path,
            remedy="replace lone surrogates",
        ) from error
    if size > limit:
        raise InvalidInput(
            "TOO_LONG",
            f"has {size:,} bytes, the limit is {limit:,}",
            field=path,
            remedy="shorten it or split the document",
        )
    return size


def check_attributes(attributes: Mapping[str, AttributeValue], path: str) -> int:
    """Raises InvalidInput if an attribute is not acceptable; returns their bytes of text."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidInput(
            "OUT_OF_RANGE",
            f"has {len(attributes)} attributes, the limit is {MAX_ATTRIBUTES}",
            field=path,
        )
    return sum(_check_attribute(name, value, path) for name, value in attributes.items())


def _check_attribute(name: str, value: AttributeValue, path: str) -> int:
    if not name:
        raise InvalidInput("FIELD_REQUIRED", "an attribute has no name", field=path)
    size = check_text(name, MAX_ATTRIBUTE_NAME_BYTES, path)
    where = f"{path}[{name!r}]"
    if isinstance(value, str):
        return size + check_text(value, MAX_ATTRIBUTE_BYTES, where)
    if isinstance(value, tuple):
        if len(value) > MAX_LIST_VALUES:
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"has {len(value)} values, the limit is {MAX_LIST_VALUES}",
                field=where,
            )
        return size + sum(check_text(item, MAX_ATTRIBUTE_BYTES, where) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("OUT_OF_RANGE", "is not a finite number", field=where)
    return size
