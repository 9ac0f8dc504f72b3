"""What the way through the HTTP doors costs: `python -m tests.load.doors`.

The same search and the same batch of embeddings, by turns over gRPC and over HTTP, one at a time,
with models that answer at once. Prints medians and their ratio.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from core.rpc import open_channel
from tests.fakes.doors import at
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import Family, running
from trireme.v1 import collection_pb2, inference_pb2, search_pb2

ROUNDS = 300
COLLECTION = "doors"
TEXTS = [f"ship number {number} with sails and oars" for number in range(64)]
SECONDS = 10.0

Call = Callable[[], Awaitable[object]]


async def main() -> None:
    """Measures both on a fresh family."""
    with tempfile.TemporaryDirectory(prefix="doors-") as folder:
        async with (
            FakeTriton() as triton,
            running(Path(folder) / "state", triton, cache_megabytes=16) as cluster,
            open_channel(cluster.address) as channel,
        ):
            await compare(Family(cluster, triton, channel))


async def compare(family: Family) -> None:
    """Stores documents, then asks in both ways."""
    collection = collection_pb2.Collection(name=COLLECTION)
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection), timeout=SECONDS
    )
    documents = {f"d{number}": text for number, text in enumerate(TEXTS)}
    position = await family.put(COLLECTION, **documents)
    await family.search(COLLECTION, "ship", min_position=position)
    search = search_pb2.SearchRequest(collection=COLLECTION, query="ship with oars")
    search.rerank.enabled = False
    embed = inference_pb2.EmbedRequest(texts=TEXTS)
    async with at(f"http://{family.cluster.http_address}", family.cluster.address) as doors:
        body = {"query": search.query, "rerank": {"enabled": False}}
        await report(
            "search, 10 hits",
            lambda: family.searches.Search(search, timeout=SECONDS),
            lambda: doors.post(f"/v1/collections/{COLLECTION}/search", body),
        )
        packed = {"input": TEXTS, "encoding_format": "base64"}
        await report(
            "embeddings, 64 texts",
            lambda: family.inference.Embed(embed, timeout=SECONDS),
            lambda: doors.post("/v1/embeddings", packed),
        )


async def report(name: str, grpc_call: Call, http_call: Call) -> None:
    """One line: medians in milliseconds, and how many times longer HTTP takes."""
    spent: dict[str, list[float]] = {"grpc": [], "http": []}
    for _ in range(ROUNDS):
        for way, call in (("grpc", grpc_call), ("http", http_call)):
            started = time.perf_counter()
            await call()
            spent[way].append(time.perf_counter() - started)
    grpc_ms, http_ms = (1000 * statistics.median(spent[way]) for way in ("grpc", "http"))
    extra = http_ms - grpc_ms
    ratio = http_ms / grpc_ms
    print(f"{name}: gRPC {grpc_ms:.2f} ms, HTTP {http_ms:.2f} ms, +{extra:.2f} ms, x {ratio:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
