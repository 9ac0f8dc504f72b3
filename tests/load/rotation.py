"""API key and certificates replaced while searches and writes go on: how many calls fail?

    python -m tests.load.rotation [--rounds 10] [--clients 8]

Each client searches and writes without a pause. Every round makes a second key, moves the clients
to it, revokes the first, and puts new certificates into the files of all roles; half of the clients
then connect anew. The models are faked, everything else runs as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from core.rpc import reason_of
from tests.fakes.credentials import bearer
from tests.fakes.secured import SECONDS, Secured, secured
from trireme.v1 import document_pb2, document_pb2_grpc, search_pb2, search_pb2_grpc

COLLECTION = "rotation"


@dataclass
class Rotation:
    """What happened: calls that were answered, those that were shed for load, those that failed by
    their reason, and the different certificates that new connections were shown."""

    answered: int = 0
    shed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    certificates: set[str] = field(default_factory=set)
    refused_keys: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "shed": self.shed,
            "failed": self.failed,
            "certificates": len(self.certificates),
            "revoked_keys_refused": self.refused_keys,
            "seconds": round(self.seconds, 1),
        }


class Client:
    """Searches and writes in turn, with the key that it is told to use by then."""

    def __init__(self, family: Secured, number: int, key: str, seen: Rotation) -> None:
        self.key = key
        self._family = family
        self._number = number
        self._seen = seen
        self._channel = family.connect()

    async def run(self, stopping: asyncio.Event) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            try:
                await (self._write(count) if count % 5 == 0 else self._search())
                self._seen.answered += 1
            except grpc.aio.AioRpcError as error:
                why = reason_of(error) or f"{error.code().name} {error.details()}"
                if why == "OVERLOADED":
                    self._seen.shed += 1
                    continue
                self._seen.failed[why] = self._seen.failed.get(why, 0) + 1
        await self._channel.close()

    def reconnect(self) -> grpc.aio.Channel:
        """Goes on over a new connection; returns the old one."""
        old, self._channel = self._channel, self._family.connect()
        return old

    async def _search(self) -> None:
        stub: Any = search_pb2_grpc.SearchServiceStub(self._channel)
        request = search_pb2.SearchRequest(collection=COLLECTION, query="heart of oak")
        reply = await stub.Search(request, metadata=bearer(self.key), timeout=SECONDS)
        if reply.degraded:
            why = f"degraded {reply.degraded[0].message}"
            self._seen.failed[why] = self._seen.failed.get(why, 0) + 1

    async def _write(self, count: int) -> None:
        stub: Any = document_pb2_grpc.DocumentServiceStub(self._channel)
        document = document_pb2.Document(id=f"{self._number}-{count % 50}", text=f"oak {count}")
        batch = document_pb2.UpsertDocumentsRequest(collection=COLLECTION, documents=[document])
        await stub.UpsertDocuments(batch, metadata=bearer(self.key), timeout=SECONDS)


async def rotate_under_load(family: Secured, *, rounds: int, clients: int) -> Rotation:
    """Replaces key and certificates `rounds` times while `clients` call."""
    seen, stopping = Rotation(), asyncio.Event()
    grants = (f"read:{COLLECTION}", f"write:{COLLECTION}")
    key = family.keys.add("clients", *grants)
    async with family.connect() as channel:
        await family.fill(channel, COLLECTION, a="heart of oak", b="tree of birch")
        await _until(family, channel, key, known=True)
        callers = [Client(family, number, key, seen) for number in range(clients)]
        running = [asyncio.create_task(caller.run(stopping)) for caller in callers]
        started = time.perf_counter()
        for _ in range(rounds):
            old, key = key, family.keys.add("clients", *grants)
            await _until(family, channel, key, known=True)
            for caller in callers:
                caller.key = key
            family.certificates.renew()
            seen.certificates.add(await _shown(family.address))
            await _drained([caller.reconnect() for caller in callers[::2]])
            family.keys.remove(old)
            await _until(family, channel, old, known=False)
            seen.refused_keys += 1
        seen.seconds = time.perf_counter() - started
        stopping.set()
        await asyncio.gather(*running)
    return seen


async def _until(family: Secured, channel: grpc.aio.Channel, key: str, *, known: bool) -> None:
    """Returns once the gateway has taken the changed file of keys up."""
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    request = search_pb2.SearchRequest(collection=COLLECTION, query="oak")
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await stub.Search(request, metadata=bearer(key), timeout=SECONDS)
                is_known = True
            except grpc.aio.AioRpcError as error:
                is_known = error.code() is not grpc.StatusCode.UNAUTHENTICATED
            if is_known is known:
                return


async def _drained(channels: list[grpc.aio.Channel]) -> None:
    """Closes channels once their calls have ended."""
    await asyncio.gather(*(channel.close(SECONDS) for channel in channels))


async def _shown(address: str) -> str:
    """The certificate that a new connection to a role is shown, as PEM."""
    host, _, port = address.rpartition(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def _run(rounds: int, clients: int) -> Rotation:
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        async with secured(Path(folder)) as family:
            return await rotate_under_load(family, rounds=rounds, clients=clients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    found = asyncio.run(_run(arguments.rounds, arguments.clients))
    print(json.dumps(found.as_dict(), indent=2))
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
