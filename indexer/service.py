"""DocumentService: translates between protobuf and the document store."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

from core.deadline import Deadline
from core.documents import Document, check_batch, check_id, check_ids, check_text
from core.errors import IndexBehind, InvalidInput, NotFound, TriremeError
from core.rpc import deadline_of
from core.wire import (
    batch_error_to_proto,
    document_from_proto,
    document_to_proto,
    position_to_proto,
)
from indexer import pages
from indexer.fleet import Fleet
from indexer.in_order import in_order
from indexer.metrics import IndexerMetrics
from indexer.store import DocumentStore, Receipt
from trireme.v1 import document_pb2, document_pb2_grpc

Context = Any

MAX_REQUEST_ID_BYTES = 128
DEFAULT_SECONDS = 10.0
LONGEST_SECONDS = 60.0
BATCHES_AT_ONCE = 4
"""Batches of one stream that are stored at the same time: while one is made durable, others are
read."""
BEHIND_SECONDS = 5.0
"""After so long a refused batch may be sent again."""


class DocumentServicer(document_pb2_grpc.DocumentServiceServicer):
    """Stores documents and wakes the shards that got some.

    Takes no more documents than the index can follow: where one of a collection's shards is
    `most_behind` changes behind (0: any number), streams are not read, single batches refused.
    """

    def __init__(
        self, store: DocumentStore, fleet: Fleet, metrics: IndexerMetrics, *, most_behind: int = 0
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._metrics = metrics
        self._most_behind = most_behind or sys.maxsize
        self._uids: dict[str, str] = {}

    async def UpsertDocuments(  # noqa: N802
        self, request: document_pb2.UpsertDocumentsRequest, context: Context
    ) -> document_pb2.UpsertDocumentsResponse:
        self._check_room(request.collection)
        receipt = await self._upsert(request, request.collection, _deadline(context))
        self._uids[request.collection] = receipt.uid
        return document_pb2.UpsertDocumentsResponse(
            position=position_to_proto(receipt.position), versions=receipt.versions
        )

    async def StreamDocuments(  # noqa: N802
        self, requests: AsyncIterator[document_pb2.StreamDocumentsRequest], context: Context
    ) -> AsyncIterator[document_pb2.StreamDocumentsResponse]:
        stream = _Stream(self._fleet, self._most_behind)

        async def answer(
            request: document_pb2.StreamDocumentsRequest | TriremeError,
        ) -> document_pb2.StreamDocumentsResponse:
            response = document_pb2.StreamDocumentsResponse(batch=stream.count())
            try:
                if isinstance(request, TriremeError):
                    raise request
                collection = stream.collection_of(request)
                receipt = await self._upsert(request, collection, _deadline(context))
            except TriremeError as error:
                response.error.CopyFrom(batch_error_to_proto(error))
            else:
                stream.uid = receipt.uid
                response.position.CopyFrom(position_to_proto(receipt.position))
            return response

        async for response in in_order(
            requests, answer, ready=stream.until_room, at_once=BATCHES_AT_ONCE
        ):
            yield response

    async def DeleteDocuments(  # noqa: N802
        self, request: document_pb2.DeleteDocumentsRequest, context: Context
    ) -> document_pb2.DeleteDocumentsResponse:
        _check_collection(request.collection)
        _check_request_id(request.request_id)
        ids = list(request.ids)
        check_ids(ids)
        receipt = await self._store.delete(
            request.collection, ids, deadline=_deadline(context), request_id=request.request_id
        )
        self._fleet.wake(receipt.uid, receipt.position)
        return document_pb2.DeleteDocumentsResponse(
            position=position_to_proto(receipt.position), deleted_count=receipt.count
        )

    async def GetDocument(  # noqa: N802
        self, request: document_pb2.GetDocumentRequest, context: Context
    ) -> document_pb2.GetDocumentResponse:
        _check_collection(request.collection)
        check_id(request.id, "id")
        document = await self._store.get(request.collection, request.id)
        if document is None:
            raise NotFound(
                "DOCUMENT_NOT_FOUND",
                f"{request.collection!r} has no document {request.id!r}",
                field="id",
            )
        return document_pb2.GetDocumentResponse(document=document_to_proto(document))

    async def ListDocuments(  # noqa: N802
        self, request: document_pb2.ListDocumentsRequest, context: Context
    ) -> document_pb2.ListDocumentsResponse:
        _check_collection(request.collection)
        limit = pages.page_size(request.page_size)
        # Of the collection itself: an alias may stand for another one by the next page.
        listing = f"documents of {await self._store.uid(request.collection)}"
        after = pages.last_of(listing, request.page_token)
        documents, more = await self._store.page(request.collection, after, limit)
        return document_pb2.ListDocumentsResponse(
            documents=[document_to_proto(document) for document in documents],
            next_page_token=pages.token_after(listing, documents[-1].id) if more else "",
        )

    def _check_room(self, collection: str) -> None:
        """Raises IndexBehind. A collection that nobody has written to yet has room."""
        uid = self._uids.get(collection, "")
        shard, behind = self._fleet.behind(uid)
        if behind < self._most_behind:
            return
        reason = self._fleet.stalled(uid, shard)
        raise IndexBehind(
            f"the index of shard {shard} is {behind:,} changes behind"
            + (f" and stands still: {reason}" if reason else ""),
            retry_after_seconds=BEHIND_SECONDS,
        )

    async def _upsert(
        self,
        request: document_pb2.UpsertDocumentsRequest | document_pb2.StreamDocumentsRequest,
        collection: str,
        deadline: Deadline,
    ) -> Receipt:
        _check_collection(collection)
        _check_request_id(request.request_id)
        documents = _documents(request)
        receipt = await self._store.upsert(
            collection, documents, deadline=deadline, request_id=request.request_id
        )
        self._fleet.wake(receipt.uid, receipt.position)
        self._metrics.stored.inc(receipt.count)
        return receipt


class _Stream:
    """What one stream remembers from batch to batch."""

    def __init__(self, fleet: Fleet, most_behind: int) -> None:
        self.uid = ""
        self._fleet = fleet
        self._most_behind = most_behind
        self._collection = ""
        self._batches = -1

    def count(self) -> int:
        """The number of one batch more, from 0."""
        self._batches += 1
        return self._batches

    def collection_of(self, request: document_pb2.StreamDocumentsRequest) -> str:
        """The collection that a batch is for: the last that was named."""
        self._collection = request.collection or self._collection
        return self._collection

    async def until_room(self) -> None:
        """Returns once the index can follow what it is sent."""
        await self._fleet.until_below(self.uid, self._most_behind)


def _documents(
    request: document_pb2.UpsertDocumentsRequest | document_pb2.StreamDocumentsRequest,
) -> list[Document]:
    documents = [
        document_from_proto(message, f"documents[{index}]")
        for index, message in enumerate(request.documents)
    ]
    check_batch(documents)
    return documents


def _check_collection(name: str) -> None:
    if not name:
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="collection", remedy="name a collection"
        )


def _check_request_id(request_id: str) -> None:
    check_text(request_id, MAX_REQUEST_ID_BYTES, "request_id")


def _deadline(context: Context) -> Deadline:
    return deadline_of(context, default_seconds=DEFAULT_SECONDS, longest_seconds=LONGEST_SECONDS)
