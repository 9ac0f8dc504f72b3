"""Searches and writes at fixed rates, and what became of them."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from core.rpc import reason_of
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    error_reason_pb2,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

COLLECTION = "steady"
DOCUMENTS = 200
WRITES_PER_SECOND = 2
SEARCH_SECONDS, WRITE_SECONDS = 5.0, 40.0


@dataclass
class Outcomes:
    """What became of the calls."""

    answered: int = 0
    milliseconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)

    async def count(self, call: Awaitable[Any], doing: str) -> None:
        """Waits for one call."""
        began = time.perf_counter()
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            self.failed[f"{reason_of(error) or error.code().name} during {doing}"] += 1
            return
        self.answered += 1
        self.milliseconds.append((time.perf_counter() - began) * 1000)
        for shortfall in getattr(reply, "degraded", ()):
            reason = error_reason_pb2.ErrorReason.Name(shortfall.reason)
            stage = search_pb2.Stage.Name(shortfall.stage)
            self.degraded[f"{stage}: {reason} during {doing}"] += 1

    def told(self) -> dict[str, Any]:
        """The figures by name."""
        p50, p99 = np.percentile(self.milliseconds or [0.0], (50, 99))
        return {
            "answered": self.answered,
            "failed": dict(self.failed),
            "degraded": dict(self.degraded),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }


@dataclass
class Load:
    """Searches and writes at fixed rates, whatever becomes of them."""

    channel: grpc.aio.Channel
    rate: float
    doing: str = "nothing"
    searches: Outcomes = field(default_factory=Outcomes)
    writes: Outcomes = field(default_factory=Outcomes)

    async def run(self) -> None:
        """Goes on until it is cancelled; calls under way then still end."""
        calls: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        try:
            for number in range(sys.maxsize):
                await asyncio.sleep(began + number / self.rate - time.monotonic())
                calls.add(asyncio.create_task(self.searches.count(self._search(), self.doing)))
                if number % max(1, round(self.rate / WRITES_PER_SECOND)) == 0:
                    calls.add(asyncio.create_task(self.writes.count(self._write(), self.doing)))
                calls = {call for call in calls if not call.done()}
        finally:
            await asyncio.gather(*calls)

    async def _search(self) -> search_pb2.SearchResponse:
        stub: Any = search_pb2_grpc.SearchServiceStub(self.channel)
        reply: search_pb2.SearchResponse = await stub.Search(
            search_request(), timeout=SEARCH_SECONDS
        )
        return reply

    async def _write(self) -> document_pb2.UpsertDocumentsResponse:
        return await _upsert(self.channel, [_document(int(time.monotonic() * 1000))])


async def fill(channel: grpc.aio.Channel) -> None:
    """Makes the collection and waits until searches see its documents."""
    collections: Any = collection_pb2_grpc.CollectionServiceStub(channel)
    collection = collection_pb2.Collection(name=COLLECTION)
    await collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection), timeout=WRITE_SECONDS
    )
    reply = await _upsert(channel, [_document(number) for number in range(DOCUMENTS)])
    request = search_request()
    request.min_position.CopyFrom(reply.position)
    searches: Any = search_pb2_grpc.SearchServiceStub(channel)
    await searches.Search(request, timeout=WRITE_SECONDS)


def search_request(number: int = 0) -> search_pb2.SearchRequest:
    """A search that finds many of them; reranked, 30 a second would be too many for two cores."""
    return search_pb2.SearchRequest(
        collection=COLLECTION,
        query=f"a ship that sails {number}",
        rerank=ranking_pb2.Rerank(enabled=False),
    )


async def _upsert(
    channel: grpc.aio.Channel, documents: Sequence[document_pb2.Document]
) -> document_pb2.UpsertDocumentsResponse:
    # The id makes a repeated write the same write.
    request = document_pb2.UpsertDocumentsRequest(
        collection=COLLECTION, documents=documents, request_id=str(uuid.uuid4())
    )
    stub: Any = document_pb2_grpc.DocumentServiceStub(channel)
    reply: document_pb2.UpsertDocumentsResponse
    reply = await stub.UpsertDocuments(request, timeout=WRITE_SECONDS)
    return reply


def _document(number: int) -> document_pb2.Document:
    return document_pb2.Document(id=f"doc-{number}", text=f"ship number {number} sails at dawn")
