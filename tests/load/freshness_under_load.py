"""How soon writes are found, and how long searches take, while documents stream in.

    python -m tests.load.freshness_under_load [--seconds 300] [--rate 100] [--database-url URL]

Documents are sent at a fixed rate, ten at a time, on one stream; the clock of each ten starts when
they are due, not when the stream takes them. The lag of a write ends when a search that waits for
its position has found its last document. Other searches are sent all the time, first while nothing
is written, then during the writing. The encoder is the fake one, in a process of its own, so that
the index is measured and not a model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np

from core.rpc import open_channel
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.local.docstrings import standard_library
from tests.fakes.triton import FakeTriton
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

COLLECTION = "freshness"
BATCH = 10
BEFORE = 2_000
"""Documents that are there before anything is measured."""
IDLE_SECONDS = 15.0
SEARCHES_PER_SECOND = 5.0
PROBES_PER_SECOND = 2.0
TIMEOUT = 30.0


class Run:
    """One cluster under one load; `lags` and `searches` in seconds."""

    def __init__(self, channel: grpc.aio.Channel, metrics: str, *, rate: float) -> None:
        self._documents: Any = document_pb2_grpc.DocumentServiceStub(channel)
        self._searches: Any = search_pb2_grpc.SearchServiceStub(channel)
        self._collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
        self._metrics = metrics
        self._period = BATCH / rate
        self._texts = [document.text[:2_000] for document in standard_library()]
        self._sent = 0
        self._due: dict[int, float] = {}
        self.lags: list[float] = []

    async def prepare(self) -> None:
        """An index of BEFORE documents."""
        collection = collection_pb2.Collection(name=COLLECTION)
        await self._collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=collection), timeout=TIMEOUT
        )
        position = document_pb2.Position()
        for _ in range(BEFORE // BATCH):
            request = self._next_batch()
            reply = await self._documents.UpsertDocuments(
                document_pb2.UpsertDocumentsRequest(
                    collection=COLLECTION, documents=request.documents
                ),
                timeout=TIMEOUT,
            )
            position = reply.position
        while await self._found("", position) is None:
            pass

    async def write(self, seconds: float) -> float:
        """Streams documents at the rate for so long; returns documents acknowledged per second."""
        probes: set[asyncio.Task[None]] = set()
        every = max(1, round(1 / (self._period * PROBES_PER_SECOND)))
        started = time.perf_counter()
        batches = round(seconds / self._period)
        async for reply in self._documents.StreamDocuments(self._stream(started, batches)):
            assert not reply.error.code, reply.error.message
            if reply.batch % every == 0:
                probes.add(asyncio.create_task(self._probe(reply)))
        elapsed = time.perf_counter() - started
        await asyncio.gather(*probes)
        return batches * BATCH / elapsed

    async def search(self, ended: asyncio.Event) -> list[float]:
        """Searches at a fixed rate until `ended`; the seconds of each from when it was due."""
        tasks: list[asyncio.Task[float]] = []
        due = time.perf_counter()
        while not ended.is_set():
            tasks.append(asyncio.create_task(self._timed(due, self._texts[len(tasks) % 97][:40])))
            due += 1 / SEARCHES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return list(await asyncio.gather(*tasks))

    async def merges(self) -> int:
        """Merges that the indexer has made."""
        page = await asyncio.to_thread(lambda: urlopen(self._metrics).read().decode())
        name = "trireme_indexer_merges_total "
        return int(
            sum(float(line.split()[1]) for line in page.splitlines() if line.startswith(name))
        )

    async def _stream(
        self, started: float, batches: int
    ) -> AsyncIterator[document_pb2.StreamDocumentsRequest]:
        first = self._sent
        for number in range(batches):
            due = started + number * self._period
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._due[number] = due
            yield self._next_batch()
        assert self._sent - first == batches * BATCH

    def _next_batch(self) -> document_pb2.StreamDocumentsRequest:
        numbers = range(self._sent, self._sent + BATCH)
        self._sent += BATCH
        texts = self._texts
        return document_pb2.StreamDocumentsRequest(
            collection=COLLECTION,
            documents=[
                document_pb2.Document(id=f"doc-{n}", title=_word(n), text=texts[n % len(texts)])
                for n in numbers
            ],
        )

    async def _probe(self, reply: document_pb2.StreamDocumentsResponse) -> None:
        last = BEFORE + (reply.batch + 1) * BATCH - 1
        found = await self._found(_word(last), reply.position)
        assert found is not None, "a search that waits for a write ended without it"
        assert f"doc-{last}" in found
        self.lags.append(time.perf_counter() - self._due.pop(reply.batch))

    async def _found(self, query: str, position: document_pb2.Position) -> list[str] | None:
        """What a search that waits for a position finds; None if it waited in vain."""
        request = search_pb2.SearchRequest(
            collection=COLLECTION,
            query=query or "anything",
            page_size=20,
            min_position=position,
            rerank=ranking_pb2.Rerank(enabled=False),
        )
        reply = await self._searches.Search(request, timeout=TIMEOUT)
        return None if reply.degraded else [hit.document.id for hit in reply.hits]

    async def _timed(self, due: float, query: str) -> float:
        request = search_pb2.SearchRequest(
            collection=COLLECTION, query=query, rerank=ranking_pb2.Rerank(enabled=False)
        )
        await self._searches.Search(request, timeout=TIMEOUT)
        return time.perf_counter() - due


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=100, help="documents a second")
    parser.add_argument("--database-url", default="", help="default: SQLite")
    print(json.dumps(asyncio.run(_measure(parser.parse_args())), indent=2))


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        async with _run(Path(folder), arguments) as run:
            await run.prepare()
            idle = await _searched(run, asyncio.sleep(IDLE_SECONDS))
            before = await run.merges()
            writing = asyncio.create_task(run.write(arguments.seconds))
            busy = await _searched(run, writing)
            merges = await run.merges() - before
    return {
        "documents_per_second": round(await writing, 1),
        "searchable_lag_seconds": _percentiles(run.lags),
        "search_seconds_idle": _percentiles(idle),
        "search_seconds_while_writing": _percentiles(busy),
        "search_p99_ratio": round(float(np.percentile(busy, 99) / np.percentile(idle, 99)), 2),
        "merges": merges,
    }


async def _searched(run: Run, work: Any) -> list[float]:
    """What searches take for as long as some work goes on."""
    ended = asyncio.Event()
    searching = asyncio.create_task(run.search(ended))
    await work
    ended.set()
    return await searching


@asynccontextmanager
async def _run(folder: Path, arguments: argparse.Namespace) -> AsyncIterator[Run]:
    address_file = folder / "triton"
    triton = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.triton", "--address-file", str(address_file)
    )
    try:
        while not (address_file.exists() and address_file.read_text().strip()):
            await asyncio.sleep(0.05)
        models = FakeTriton()  # only for its tokenizers; it is not started
        cluster = await Cluster.create(
            ClusterConfig(
                state=folder / "state",
                triton_address=address_file.read_text().strip(),
                model_directory=models.model_directory,
                database_url=arguments.database_url,
            )
        )
        try:
            await cluster.start()
            page = f"http://{cluster.metrics_addresses['indexer']}/metrics"
            async with open_channel(cluster.address) as channel:
                yield Run(channel, page, rate=arguments.rate)
        finally:
            await cluster.stop(5.0)
    finally:
        triton.terminate()
        await triton.wait()


def _word(number: int) -> str:
    """A word that only this document has: letters, since models read digits one by one."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:08}")


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(seconds, p)), 3) for p in (50, 95, 99, 100)}


if __name__ == "__main__":
    main()
