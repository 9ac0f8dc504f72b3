"""The document store: what it returns is durable, in the feed, and will be indexed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from core.deadline import Deadline
from core.documents import Document, Position
from core.errors import Overloaded
from core.wire import attributes_from_json, attributes_to_json
from indexer import catalogue, requests
from indexer.appending import Write, append
from indexer.bulk import in_parts
from indexer.catalogue import CollectionRecord
from indexer.changes import DELETE, UPSERT
from indexer.clock import moment
from indexer.database import Database
from indexer.tables import change, document

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Content of one listed page, unless its first document alone is longer."""

RETRY_AFTER_SECONDS = 0.5

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a batch: `versions` in its order, `count` of documents written or removed."""

    uid: str
    position: Position
    versions: tuple[int, ...]
    count: int


def _nothing_to_check(record: CollectionRecord) -> None:
    """Removals fit every schema."""


class DocumentStore:
    """Documents of all collections in `database`; at most `max_waiting` batches wait at a time."""

    def __init__(self, database: Database, *, max_waiting: int) -> None:
        self._database = database
        self._max_waiting = max_waiting
        self.waiting = 0

    async def upsert(
        self,
        collection: str,
        documents: Sequence[Document],
        *,
        deadline: Deadline,
        request_id: str = "",
    ) -> Receipt:
        """Stores documents (checked, ids distinct): all of them or none.

        Raises NotFound (COLLECTION_NOT_FOUND), InvalidInput (ATTRIBUTE_MISMATCH), Overloaded,
        StorageFull, OutOfTime.
        """
        writes = [
            Write(each.id, (each.title, each.text, _attributes_text(each))) for each in documents
        ]

        def check(record: CollectionRecord) -> None:
            for number, each in enumerate(documents):
                record.schema_.check(each.attributes, f"documents[{number}].attributes")

        return await self._apply(collection, UPSERT, writes, deadline, request_id, check)

    async def delete(
        self, collection: str, ids: Sequence[str], *, deadline: Deadline, request_id: str = ""
    ) -> Receipt:
        """Removes documents by distinct ids; absent ones are left out. Raises as upsert does."""
        writes = [Write(each, None) for each in ids]
        return await self._apply(collection, DELETE, writes, deadline, request_id)

    async def get(self, collection: str, document_id: str) -> Document | None:
        """The newest version of a document, None if there is none."""

        def query(connection: Connection) -> Document | None:
            uid = catalogue.find(connection, collection).uid
            found = connection.execute(_newest(uid).where(document.c.id == document_id)).first()
            return _document(found) if found is not None else None

        return await self._database.read(query)

    async def uid(self, collection: str) -> str:
        """The uid of the collection that a name or alias stands for now; raises NotFound."""
        return await self._database.read(lambda c: catalogue.find(c, collection).uid)

    async def page(self, collection: str, after: str, limit: int) -> tuple[list[Document], bool]:
        """Up to `limit` documents with ids above `after`, and whether there are more."""

        def query(connection: Connection) -> tuple[list[Document], bool]:
            uid = catalogue.find(connection, collection).uid
            chosen = _newest(uid).where(document.c.id > after).order_by(document.c.id)
            page: list[Document] = []
            size = 0
            with connection.execute(in_parts(chosen.limit(limit + 1))) as rows:
                for row in rows:
                    size += len(f"{row.title}{row.text}{row.attributes}".encode())
                    if len(page) == limit or (page and size > MAX_PAGE_BYTES):
                        return page, True
                    page.append(_document(row))
            return page, False

        return await self._database.read(query)

    async def _apply(
        self,
        collection: str,
        op: str,
        writes: Sequence[Write],
        deadline: Deadline,
        request_id: str,
        check: Callable[[CollectionRecord], None] = _nothing_to_check,
    ) -> Receipt:
        if self.waiting >= self._max_waiting:
            raise Overloaded(
                f"{self.waiting} batches wait to be stored",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

        def job(connection: Connection) -> Receipt:
            deadline.check("storing the batch")
            record = catalogue.find(connection, collection)
            answer = requests.answer_to(connection, record.uid, op, request_id)
            if answer is None:
                check(record)
                answer = append(connection, record, op, writes)
                requests.remember(connection, record.uid, op, request_id, answer)
            return _receipt(record.uid, answer)

        self.waiting += 1
        try:
            return await self._database.write(job, lane=collection)
        finally:
            self.waiting -= 1


def _newest(uid: str) -> Any:
    joined = document.join(
        change,
        (change.c.uid == document.c.uid)
        & (change.c.shard == document.c.shard)
        & (change.c.sequence == document.c.sequence),
    )
    return select(change).select_from(joined).where(document.c.uid == uid, ~document.c.deleted)


def _document(row: Any) -> Document:
    return Document(
        id=row.id,
        title=row.title,
        text=row.text,
        attributes=attributes_from_json(json.loads(row.attributes)),
        version=row.version,
        update_time=moment(row.update_micros),
    )


def _attributes_text(each: Document) -> str:
    if not each.attributes:
        return "{}"
    return _ENCODER.encode(attributes_to_json(each.attributes))


def _receipt(uid: str, answer: dict[str, Any]) -> Receipt:
    position = Position({int(shard): head for shard, head in answer["position"].items()})
    return Receipt(uid, position, tuple(answer["versions"]), answer["count"])
