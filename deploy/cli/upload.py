"""Sends documents batch by batch until every one is acknowledged, through outages and restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import grpc

from core.documents import MAX_BATCH_BYTES, MAX_BATCH_DOCUMENTS, Position
from core.rpc import reason_of
from core.wire import document_to_proto, position_to_proto
from deploy.cli.chosen_models import ChosenModels
from deploy.cli.journal import Journal
from deploy.cli.lines import Line, read_documents
from trireme.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    document_pb2,
    document_pb2_grpc,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
)

BATCH_DOCUMENTS = 128
CALL_SECONDS = 30.0
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.2
DEFAULT_MODELS = ChosenModels()
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Reply = TypeVar("Reply")

assert BATCH_DOCUMENTS <= MAX_BATCH_DOCUMENTS


def ensure_collection(
    channel: grpc.Channel, name: str, models: ChosenModels = DEFAULT_MODELS
) -> collection_pb2.Collection:
    """The collection of that name, created if it is not there.

    Raises ModelMismatch if it is there with other models than chosen.
    """
    stub = collection_pb2_grpc.CollectionServiceStub(channel)
    try:
        got = stub.GetCollection(
            collection_pb2.GetCollectionRequest(name=name), timeout=CALL_SECONDS
        )
    except grpc.RpcError as error:
        if reason_of(error) != "COLLECTION_NOT_FOUND":
            raise
        created = stub.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=models.collection(name)),
            timeout=CALL_SECONDS,
        )
        return created.collection
    models.check(got.collection)
    return got.collection


def upload(
    channel: grpc.Channel,
    collection: collection_pb2.Collection,
    source: Path,
    on_batch: Callable[[int, int], None],
    *,
    skip_empty: bool = False,
) -> Position:
    """Uploads a JSON-lines file, from where an earlier try was cut off.

    `on_batch(documents, bytes_read)` is called after every acknowledgement. Returns the position
    of the last write. Raises InvalidInput for a line that is not acceptable, grpc.RpcError if a
    batch is refused or nothing has answered for two minutes.
    """
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    journal = Journal.open(collection.uid, source)
    reached: dict[int, int] = {}
    for batch in batches(read_documents(source, after_line=journal.line, skip_empty=skip_empty)):
        request = document_pb2.UpsertDocumentsRequest(
            collection=collection.name,
            documents=[document_to_proto(line.document) for line in batch],
            request_id=journal.request_id(journal.line),
        )
        response = patiently(partial(stub.UpsertDocuments, request, timeout=CALL_SECONDS))
        reached.update({p.shard: p.sequence for p in response.position.shards})
        journal.save(batch[-1].number)
        on_batch(len(batch), batch[-1].bytes_read)
    journal.close()
    return Position(reached)


def wait_until_indexed(
    channel: grpc.Channel, name: str, on_progress: Callable[[int, int], None]
) -> collection_pb2.Collection:
    """Waits until every accepted change can be found; tells `on_progress(indexed, accepted)`."""
    stub = collection_pb2_grpc.CollectionServiceStub(channel)
    request = collection_pb2.GetCollectionRequest(name=name)
    while True:
        state = patiently(partial(stub.GetCollection, request, timeout=CALL_SECONDS)).collection
        indexed = sum(shard.indexed_sequence for shard in state.shards)
        accepted = sum(shard.head_sequence for shard in state.shards)
        on_progress(indexed, accepted)
        if indexed >= accepted:
            _wait_until_found(channel, state)
            return state
        time.sleep(POLL_SECONDS)


def _wait_until_found(channel: grpc.Channel, state: collection_pb2.Collection) -> None:
    """Waits until searches see what is published: shards take a moment to open it."""
    stub = search_pb2_grpc.SearchServiceStub(channel)
    reached = {s.shard: s.head_sequence for s in state.shards if s.head_sequence}
    request = search_pb2.SearchRequest(
        collection=state.name,
        query="anything",
        page_size=1,
        mode=search_pb2.SEARCH_MODE_LEXICAL,
        rerank=ranking_pb2.Rerank(enabled=False),
        min_position=position_to_proto(Position(reached)),
    )
    while True:
        reply = patiently(partial(stub.Search, request, timeout=CALL_SECONDS))
        if all(shortfall.stage != search_pb2.STAGE_WAIT for shortfall in reply.degraded):
            return


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in batches that stay below the limits of one request, with distinct ids in each."""
    batch: list[Line] = []
    ids: set[str] = set()
    size = 0
    for line in lines:
        document = line.document
        length = len(document.id) + 4 * (len(document.title) + len(document.text))
        full = len(batch) >= BATCH_DOCUMENTS or size + length > MAX_BATCH_BYTES
        if batch and (full or document.id in ids):
            yield batch
            batch, ids, size = [], set(), 0
        batch.append(line)
        ids.add(document.id)
        size += length
    if batch:
        yield batch


def patiently(call: Callable[[], Reply]) -> Reply:
    """The result of `call`, tried again with growing pauses while nobody answers.

    While the index is behind, it is waited for, however long that takes.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    for attempt in count():
        try:
            return call()
        except grpc.RpcError as error:
            if reason_of(error) == "INDEX_BEHIND":
                give_up = time.monotonic() + PATIENCE_SECONDS
            elif error.code() not in _PASSING or time.monotonic() > give_up:
                raise
            time.sleep(min(2.0, 0.1 * 2**attempt))
    raise AssertionError("unreachable")
