"""The document store: what it returns is durable, in the feed, and will be indexed.

One batch is one transaction: read what is there, number the writes shard by shard, append them to
the feed, point the documents at them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from core.deadline import Deadline
from core.documents import Document, Position, shard_of
from core.errors import Overloaded
from core.wire import attributes_from_json, attributes_to_json
from indexer import catalogue, requests
from indexer.catalogue import CollectionRecord
from indexer.changes import DELETE, UPSERT, next_chain
from indexer.clock import moment, now_micros
from indexer.database import Database
from indexer.tables import change, document, shard_head

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""Content of one listed page, unless its first document alone is longer."""

RETRY_AFTER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a batch: `versions` in its order, `count` of documents written or removed."""

    uid: str
    position: Position
    versions: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class _Write:
    """One document's part of a batch; `content` is None for a removal."""

    id: str
    content: tuple[str, str, str] | None


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is there of an id."""

    sequence: int
    version: int
    deleted: bool


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

        Raises NotFound (COLLECTION_NOT_FOUND), Overloaded, StorageFull, OutOfTime.
        """
        writes = [
            _Write(each.id, (each.title, each.text, _attributes_text(each))) for each in documents
        ]
        return await self._apply(collection, UPSERT, writes, deadline, request_id)

    async def delete(
        self, collection: str, ids: Sequence[str], *, deadline: Deadline, request_id: str = ""
    ) -> Receipt:
        """Removes documents by distinct ids; absent ones are left out. Raises as upsert does."""
        writes = [_Write(each, None) for each in ids]
        return await self._apply(collection, DELETE, writes, deadline, request_id)

    async def get(self, collection: str, document_id: str) -> Document | None:
        """The newest version of a document, None if there is none."""

        def query(connection: Connection) -> Document | None:
            uid = catalogue.find(connection, collection).uid
            found = connection.execute(_newest(uid).where(document.c.id == document_id)).first()
            return _document(found) if found is not None else None

        return await self._database.read(query)

    async def page(self, collection: str, after: str, limit: int) -> tuple[list[Document], bool]:
        """Up to `limit` documents with ids above `after`, and whether there are more."""

        def query(connection: Connection) -> tuple[list[Document], bool]:
            uid = catalogue.find(connection, collection).uid
            chosen = _newest(uid).where(document.c.id > after).order_by(document.c.id)
            page: list[Document] = []
            size = 0
            with connection.execute(chosen.limit(limit + 1)) as rows:
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
        writes: Sequence[_Write],
        deadline: Deadline,
        request_id: str,
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
                answer = _store(connection, record, op, writes)
                requests.remember(connection, record.uid, op, request_id, answer)
            return _receipt(record.uid, answer)

        self.waiting += 1
        try:
            return await self._database.write(job)
        finally:
            self.waiting -= 1


def _store(
    connection: Connection, record: CollectionRecord, op: str, writes: Sequence[_Write]
) -> dict[str, Any]:
    """Applies a batch inside a transaction; returns the answer to it."""
    now = now_micros()
    stored = _read_stored(connection, record.uid, [write.id for write in writes])
    if op == DELETE:
        writes = [w for w in writes if w.id in stored and not stored[w.id].deleted]
    by_shard: dict[int, list[_Write]] = {}
    for write in writes:
        by_shard.setdefault(shard_of(write.id, record.shard_count), []).append(write)
    heads = {}
    for shard in sorted(by_shard):
        heads[shard] = _append(connection, record.uid, shard, op, by_shard[shard], stored, now)
    versions = [stored[write.id].version + 1 if write.id in stored else 1 for write in writes]
    return {"position": heads, "versions": versions, "count": len(writes)}


def _append(
    connection: Connection,
    uid: str,
    shard: int,
    op: str,
    writes: Sequence[_Write],
    stored: dict[str, _Stored],
    now: int,
) -> int:
    """Puts writes at the end of one shard's feed; returns its new head.

    The head row is updated first and stays locked until the commit: sequence order is commit order.
    """
    live = sum(write.id in stored and not stored[write.id].deleted for write in writes)
    growth = -live if op == DELETE else len(writes) - live
    row = connection.execute(
        _ADVANCE, {"of_uid": uid, "of_shard": shard, "n": len(writes), "growth": growth}
    ).one()
    sequence, chain = int(row.head) - len(writes), str(row.chain)
    changes = []
    for write in writes:
        sequence += 1
        before = stored.get(write.id)
        version = before.version + 1 if before else 1
        title, text, attributes = write.content or ("", "", "{}")
        chain = next_chain(
            chain, id=write.id, version=version, op=op, content=(title, text, attributes, now)
        )
        changes.append(
            {
                "uid": uid,
                "shard": shard,
                "sequence": sequence,
                "id": write.id,
                "version": version,
                "op": op,
                "previous": before.sequence if before else 0,
                "title": title,
                "text": text,
                "attributes": attributes,
                "update_micros": now,
                "chain": chain,
            }
        )
    connection.execute(insert(change), changes)
    _point(connection, changes, stored, deleted=op == DELETE)
    connection.execute(_SET_CHAIN, {"of_uid": uid, "of_shard": shard, "new_chain": chain})
    return sequence


_ADVANCE = (
    update(shard_head)
    .where(shard_head.c.uid == bindparam("of_uid"), shard_head.c.shard == bindparam("of_shard"))
    .values(
        head=shard_head.c.head + bindparam("n"),
        documents=shard_head.c.documents + bindparam("growth"),
    )
    .returning(shard_head.c.head, shard_head.c.chain)
)
_SET_CHAIN = (
    update(shard_head)
    .where(shard_head.c.uid == bindparam("of_uid"), shard_head.c.shard == bindparam("of_shard"))
    .values(chain=bindparam("new_chain"))
)
_MOVE = (
    update(document)
    .where(document.c.uid == bindparam("of_uid"), document.c.id == bindparam("of_id"))
    .values(
        sequence=bindparam("new_sequence"),
        version=bindparam("new_version"),
        deleted=bindparam("new_deleted"),
    )
)


def _point(
    connection: Connection,
    changes: Sequence[dict[str, Any]],
    stored: dict[str, _Stored],
    *,
    deleted: bool,
) -> None:
    """Points the documents at their new changes."""
    fields = ("uid", "id", "shard", "sequence", "version")
    new = [
        {name: each[name] for name in fields} | {"deleted": deleted}
        for each in changes
        if each["id"] not in stored
    ]
    moved = [
        {
            "of_uid": each["uid"],
            "of_id": each["id"],
            "new_sequence": each["sequence"],
            "new_version": each["version"],
            "new_deleted": deleted,
        }
        for each in changes
        if each["id"] in stored
    ]
    if new:
        connection.execute(insert(document), new)
    if moved:
        connection.execute(_MOVE, moved)


def _read_stored(connection: Connection, uid: str, ids: Sequence[str]) -> dict[str, _Stored]:
    chosen = select(
        document.c.id, document.c.sequence, document.c.version, document.c.deleted
    ).where(document.c.uid == uid, document.c.id.in_(sorted(ids)))
    return {
        row.id: _Stored(row.sequence, row.version, row.deleted)
        for row in connection.execute(chosen.with_for_update())
    }


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
    return json.dumps(attributes_to_json(each.attributes), ensure_ascii=False, sort_keys=True)


def _receipt(uid: str, answer: dict[str, Any]) -> Receipt:
    position = Position({int(shard): head for shard, head in answer["position"].items()})
    return Receipt(uid, position, tuple(answer["versions"]), answer["count"])
