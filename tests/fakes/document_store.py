"""A document store with one collection, as the tests of it use it."""

from __future__ import annotations

from typing import Any

from core.deadline import Deadline
from core.documents import Document
from indexer import catalogue, feed
from indexer.catalogue import CollectionRecord
from indexer.changes import Change, first_chain
from indexer.database import Database
from indexer.store import DocumentStore, Receipt

SHARDS = 3
RECORD = CollectionRecord("u" * 32, "papers", SHARDS, "m", "1", "f", 8, "cosine", 64, 16, 0)


class Store:
    """A store with one collection."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.documents = DocumentStore(database, max_waiting=1_000)

    @classmethod
    async def create(cls, url: str) -> Store:
        """A new store, which has the collection."""
        store = await cls.open(url)
        await store.database.write(lambda connection: catalogue.add(connection, RECORD))
        return store

    @classmethod
    async def open(cls, url: str) -> Store:
        """A store that was created before."""
        return cls(await Database.create(url))

    async def close(self) -> None:
        await self.database.close()

    async def upsert(self, *documents: Document, request_id: str = "") -> Receipt:
        return await self.documents.upsert(
            "papers", documents, deadline=Deadline.after(60), request_id=request_id
        )

    async def delete(self, *ids: str, request_id: str = "") -> Receipt:
        return await self.documents.delete(
            "papers", ids, deadline=Deadline.after(60), request_id=request_id
        )

    async def feed(self, shard: int, after: int = 0, chain: str = "") -> list[Change]:
        return await self.database.read(
            lambda connection: feed.read(
                connection,
                RECORD.uid,
                shard,
                after=after,
                chain=chain or first_chain(RECORD.uid, shard),
                limit=10_000,
                limit_bytes=1 << 30,
            )
        )

    async def feeds(self) -> list[Change]:
        return [each for shard in range(SHARDS) for each in await self.feed(shard)]


def document(id: str, body: str = "text", **attributes: Any) -> Document:
    return Document(id=id, title="title", text=body, attributes=attributes)
