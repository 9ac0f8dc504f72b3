"""What many small collections cost: memory, threads and time, with the fake Triton.

    python -m tests.load.collections [--collections N] [--documents N] [--idle-seconds S]

Time is given against that of the first tenth of the collections, which does not depend on the
machine. Memory is what each process keeps (PSS), after it has been idle for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from core.rpc import open_channel
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import Client, running
from trireme.v1 import collection_pb2, search_pb2

SECONDS = 60.0
LEXICAL = search_pb2.SEARCH_MODE_LEXICAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--collections", type=int, default=200)
    parser.add_argument("--documents", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=12.0)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options)), indent=2))


class Caller(Client):
    """A client of the gateway."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    async def make(self, name: str, documents: int) -> None:
        """A collection with some documents, all of them searchable."""
        wanted = collection_pb2.Collection(name=name)
        request = collection_pb2.CreateCollectionRequest(collection=wanted)
        await self.collections.CreateCollection(request, timeout=SECONDS)
        texts = {f"{name}-{n}": f"heart number {n}" for n in range(documents)}
        position = await self.put(name, **texts)
        reply = await self.search(name, "heart", mode=LEXICAL, min_position=position)
        assert len(reply.hits) == documents, f"{name} has {len(reply.hits)} hits"


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    names = [f"customer-{n:04}" for n in range(options.collections)]
    with tempfile.TemporaryDirectory() as folder:
        async with FakeTriton() as triton, running(Path(folder) / "state", triton) as cluster:
            async with open_channel(cluster.address) as channel:
                caller = Caller(channel)
                empty = usage(cluster.pids)
                seconds = [await _timed(_making(caller, name, options.documents)) for name in names]
                busy = usage(cluster.pids)
                await asyncio.sleep(options.idle_seconds)
                idle = usage(cluster.pids)
                calls = await _calls(caller, names)
    tenth = max(1, len(names) // 10)
    return {
        "collections": len(names),
        "shards": 2,
        "making_last_to_first_tenth": _ratio(seconds[-tenth:], seconds[:tenth]),
        "making_median_seconds": round(statistics.median(seconds), 3),
        "megabytes_and_threads": {"empty": empty, "written": busy, "idle": idle},
        **calls,
    }


def _making(caller: Caller, name: str, documents: int) -> Callable[[], Awaitable[None]]:
    return lambda: caller.make(name, documents)


async def _calls(caller: Caller, names: list[str]) -> dict[str, float]:
    """Milliseconds of what is asked most, in the middle of 50 tries each."""

    async def middle(call: Callable[[int], Awaitable[Any]]) -> float:
        taken = [await _timed(lambda n=n: call(n)) for n in range(50)]  # type: ignore[misc]
        return round(1000 * statistics.median(taken), 1)

    def one(n: int) -> Any:
        request = collection_pb2.GetCollectionRequest(name=names[n % len(names)])
        return caller.collections.GetCollection(request, timeout=SECONDS)

    def every(_: int) -> Any:
        request = collection_pb2.ListCollectionsRequest(page_size=1_000)
        return caller.collections.ListCollections(request, timeout=SECONDS)

    return {
        "search_milliseconds": await middle(
            lambda n: caller.search(names[n % len(names)], "heart", mode=LEXICAL)
        ),
        "get_collection_milliseconds": await middle(one),
        "list_collections_milliseconds": await middle(every),
    }


def usage(pids: dict[str, int]) -> dict[str, tuple[float, int]]:
    """Megabytes (PSS) and threads of each process."""
    return {role: (_megabytes(pid), _threads(pid)) for role, pid in pids.items()}


def _megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1)


def _threads(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))


async def _timed(call: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def _ratio(late: list[float], early: list[float]) -> float:
    return round(statistics.median(late) / statistics.median(early), 2)


if __name__ == "__main__":
    main()
