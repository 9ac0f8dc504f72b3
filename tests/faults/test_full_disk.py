"""A disk that really is full: writes are refused whole, searches go on, space mends it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from core.rpc import open_channel, reason_of
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Family, running
from trireme.v1 import collection_pb2, document_pb2, search_pb2

pytestmark = pytest.mark.faults

COLLECTION = "full"
DISK_MIB = 96
BALLAST_MIB = 64
PATIENCE_SECONDS = 60.0
KEEP_SECONDS = 2.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little space."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)], check=True
    )
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_refuses_writes_and_serves_searches(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * BALLAST_MIB * 1024 * 1024)
    async with (
        FakeTriton() as triton,
        # What no generation needs fills the disk as well, and has to go while nothing is published.
        running(small_disk / "state", triton, keep_seconds=KEEP_SECONDS) as cluster,
        open_channel(cluster.address) as channel,
    ):
        family = Family(cluster, triton, channel)
        await family.collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(
                collection=collection_pb2.Collection(name=COLLECTION)
            ),
            timeout=SECONDS,
        )
        first = await family.put(COLLECTION, first="word of the first document")
        await family.search(COLLECTION, "word", min_position=first)

        acknowledged, refusal = await _fill(family)

        assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refusal) == "STORAGE_FULL"
        assert await _stored(family) == {"first", *acknowledged}
        reply = await family.search(COLLECTION, "first", seconds=5.0)
        assert reply.hits[0].document.id == "first"

        ballast.unlink()
        position = await _once_there_is_space(family)
        healed = await _once_it_is_indexed(family, position)
        assert "last" in [hit.document.id for hit in healed.hits]


async def _fill(family: Family) -> tuple[set[str], grpc.aio.AioRpcError]:
    """Writes until it is refused; returns what was acknowledged and the refusal."""
    acknowledged: set[str] = set()
    number = 0
    while True:
        batch = [_heavy(f"d{n}") for n in range(number, number + 8)]
        request = document_pb2.UpsertDocumentsRequest(collection=COLLECTION, documents=batch)
        try:
            await family.documents.UpsertDocuments(request, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return acknowledged, error
        acknowledged.update(document.id for document in batch)
        number += 8


def _heavy(id: str) -> document_pb2.Document:
    """A document that takes much space and little time to embed."""
    document = document_pb2.Document(id=id, text="filler")
    for number in range(16):
        document.attributes[f"weight{number}"].string_value = os.urandom(2000).hex()
    return document


async def _stored(family: Family) -> set[str]:
    ids: set[str] = set()
    token = ""
    while True:
        page = await family.documents.ListDocuments(
            document_pb2.ListDocumentsRequest(
                collection=COLLECTION, page_size=100, page_token=token
            ),
            timeout=SECONDS,
        )
        ids.update(document.id for document in page.documents)
        token = page.next_page_token
        if not token:
            return ids


async def _once_there_is_space(family: Family) -> document_pb2.Position:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await family.put(COLLECTION, last="there is space again")
            except grpc.aio.AioRpcError as error:
                if reason_of(error) != "STORAGE_FULL":
                    raise


async def _once_it_is_indexed(
    family: Family, position: document_pb2.Position
) -> search_pb2.SearchResponse:
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        while True:
            reply = await family.search(COLLECTION, "space", min_position=position)
            if not reply.degraded:
                return reply
