"""Whether walks over pages repeat or miss hits while documents are written, changed and deleted.

    python -m tests.load.pages [--walks N] [--pages N] [--rate N] [--at-once N] [--walk-seconds S]

A walk takes the first page, then all the rest as one page, which is the truth, and then goes on
from the first page in as many pages as asked for, spread over its time, while the writer goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from core.documents import MAX_BATCH_DOCUMENTS, Document
from core.rpc import CHANNEL_OPTIONS, open_channel, reason_of
from core.wire import document_to_proto
from deploy.cli.cluster import started_cluster
from deploy.cli.upload import ensure_collection
from deploy.local.cluster import ClusterConfig
from deploy.local.docstrings import standard_library
from trireme.v1 import document_pb2, document_pb2_grpc, search_pb2, search_pb2_grpc

COLLECTION = "pages"
WRITERS = 4
SECONDS = 30.0
FIRST_PAGE_SIZE = 10
QUERIES = (
    "read a file line by line",
    "compress bytes",
    "run a function in another thread",
    "parse dates",
    "sort a list by a key",
    "open a network connection",
)


@dataclass
class Tally:
    """What all walks came to. `generations` are those that first pages were of.

    `degraded` counts walks by what their first pages lacked.
    """

    walks: int = 0
    pages: int = 0
    hits: int = 0
    repeated: int = 0
    missing: int = 0
    changed: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    generations: set[tuple[int, int]] = field(default_factory=set)
    written: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--walks", type=int, default=200)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50.0, help="documents written per second")
    parser.add_argument("--at-once", type=int, default=20, help="walks at a time")
    parser.add_argument("--walk-seconds", type=float, default=10.0, help="from first page to last")
    asked = parser.parse_args()
    documents = [_shortened(document) for document in standard_library()]
    with tempfile.TemporaryDirectory(prefix="trireme-pages-") as folder:
        config = ClusterConfig(state=Path(folder) / "state", shards=2, port=0)
        with started_cluster(config) as cluster:
            with grpc.insecure_channel(cluster.address, options=list(CHANNEL_OPTIONS)) as channel:
                ensure_collection(channel, COLLECTION)
                _fill(channel, documents)
            started = time.perf_counter()
            tally = asyncio.run(_measure(cluster.address, documents, asked))
            seconds = time.perf_counter() - started
    _report(tally, seconds)


def _shortened(document: Document) -> Document:
    """Its first line, so that two cores embed what is written as fast as it comes."""
    return replace(document, text=document.text.partition("\n")[0])


def _fill(channel: grpc.Channel, documents: Sequence[Document]) -> None:
    """Stores all documents and waits until they can be found."""
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    for start in range(0, len(documents), MAX_BATCH_DOCUMENTS):
        batch = documents[start : start + MAX_BATCH_DOCUMENTS]
        written = stub.UpsertDocuments(
            document_pb2.UpsertDocumentsRequest(
                collection=COLLECTION, documents=map(document_to_proto, batch)
            ),
            timeout=SECONDS,
        )
    request = search_pb2.SearchRequest(
        collection=COLLECTION, query=QUERIES[0], min_position=written.position
    )
    searches = search_pb2_grpc.SearchServiceStub(channel)
    while searches.Search(request, timeout=SECONDS).degraded:
        pass


async def _measure(address: str, documents: Sequence[Document], asked: argparse.Namespace) -> Tally:
    tally = Tally()
    numbers = iter(range(asked.walks))
    async with open_channel(address) as channel:
        # One alone would wait for its acknowledgements longer than the rate allows.
        writing = [
            asyncio.create_task(_write(channel, documents, asked.rate / WRITERS, tally, seed))
            for seed in range(WRITERS)
        ]

        async def walk_on(walker: int) -> None:
            # Walks begin evenly, as they end.
            await asyncio.sleep(walker * asked.walk_seconds / asked.at_once)
            for number in numbers:
                await _walk(channel, QUERIES[number % len(QUERIES)], asked, tally)

        try:
            await asyncio.gather(*map(walk_on, range(asked.at_once)))
        finally:
            for writer in writing:
                writer.cancel()
    return tally


async def _write(
    channel: grpc.aio.Channel,
    documents: Sequence[Document],
    rate: float,
    tally: Tally,
    seed: int,
) -> None:
    """Changes, deletes and adds documents for ever, `rate` of them per second."""
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    chance, started = random.Random(seed), time.perf_counter()
    for number in itertools.count():
        await asyncio.sleep(started + number / rate - time.perf_counter())
        document = chance.choice(documents)
        kind = chance.random()
        if kind < 0.2:
            await stub.DeleteDocuments(
                document_pb2.DeleteDocumentsRequest(collection=COLLECTION, ids=[document.id]),
                timeout=SECONDS,
            )
        else:
            id = document.id if kind < 0.8 else f"{document.id}#{seed}-{number}"
            text = f"{chance.choice(QUERIES)} {document.text}"
            message = document_to_proto(replace(document, id=id, text=text))
            await stub.UpsertDocuments(
                document_pb2.UpsertDocumentsRequest(collection=COLLECTION, documents=[message]),
                timeout=SECONDS,
            )
        tally.written += 1


async def _walk(
    channel: grpc.aio.Channel, query: str, asked: argparse.Namespace, tally: Tally
) -> None:
    stub = search_pb2_grpc.SearchServiceStub(channel)

    async def page(size: int, token: str) -> search_pb2.SearchResponse:
        request = search_pb2.SearchRequest(
            collection=COLLECTION, query=query, page_size=size, page_token=token
        )
        reply: search_pb2.SearchResponse = await stub.Search(request, timeout=SECONDS)
        return reply

    try:
        first = await page(FIRST_PAGE_SIZE, "")
        rest = await page(1000, first.next_page_token)
        size = -(-len(rest.hits) // (asked.pages - 1))
        walked, token = [first], first.next_page_token
        while token:
            await asyncio.sleep(asked.walk_seconds / (asked.pages - 1))
            walked.append(await page(size, token))
            token = walked[-1].next_page_token
    except grpc.aio.AioRpcError as error:
        tally.refused[reason_of(error) or error.code().name] += 1
        return
    _count(tally, walked, [*first.hits, *rest.hits])


def _count(
    tally: Tally, walked: Sequence[search_pb2.SearchResponse], truth: Sequence[search_pb2.Hit]
) -> None:
    hits = [hit for reply in walked for hit in reply.hits]
    seen = Counter(hit.document.id for hit in hits)
    wanted = walked[0].candidate_count
    assert len(truth) == wanted
    tally.walks += 1
    tally.pages += len(walked)
    tally.hits += len(hits)
    tally.repeated += len(hits) - len(seen)
    tally.missing += wanted - len(seen)
    tally.changed += sum(one != other for one, other in zip(hits, truth, strict=False))
    tally.degraded.update(
        f"{search_pb2.Stage.Name(label.stage)}: {label.message}" for label in walked[0].degraded
    )
    tally.generations.update((shard.shard, shard.generation) for shard in walked[0].shards)


def _report(tally: Tally, seconds: float) -> None:
    report = {
        **vars(tally),
        "generations": len(tally.generations),
        "seconds": round(seconds, 1),
        "written_per_second": round(tally.written / seconds, 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
