"""DocumentService: translates between protobuf and the document store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from core.deadline import Deadline
from core.documents import Document, check_batch, check_id, check_ids, check_text
from core.errors import InvalidInput, NotFound, TriremeError
from core.rpc import deadline_of
from core.wire import (
    batch_error_to_proto,
    document_from_proto,
    document_to_proto,
    position_to_proto,
)
from indexer import pages
from indexer.fleet import Fleet
from indexer.metrics import IndexerMetrics
from indexer.store import DocumentStore, Receipt
from trireme.v1 import document_pb2, document_pb2_grpc

Context = Any

MAX_REQUEST_ID_BYTES = 128
DEFAULT_SECONDS = 10.0
LONGEST_SECONDS = 60.0


class DocumentServicer(document_pb2_grpc.DocumentServiceServicer):
    """Stores documents and wakes the shards that got some."""

    def __init__(self, store: DocumentStore, fleet: Fleet, metrics: IndexerMetrics) -> None:
        self._store = store
        self._fleet = fleet
        self._metrics = metrics

    async def UpsertDocuments(  # noqa: N802
        self, request: document_pb2.UpsertDocumentsRequest, context: Context
    ) -> document_pb2.UpsertDocumentsResponse:
        receipt = await self._upsert(request, request.collection, _deadline(context))
        return document_pb2.UpsertDocumentsResponse(
            position=position_to_proto(receipt.position), versions=receipt.versions
        )

    async def StreamDocuments(  # noqa: N802
        self, requests: AsyncIterator[document_pb2.StreamDocumentsRequest], context: Context
    ) -> AsyncIterator[document_pb2.StreamDocumentsResponse]:
        collection = ""
        batch = 0
        while True:
            response = document_pb2.StreamDocumentsResponse(batch=batch)
            try:
                request = await anext(requests)
                collection = request.collection or collection
                receipt = await self._upsert(request, collection, _deadline(context))
            except StopAsyncIteration:
                return
            except TriremeError as error:
                response.error.CopyFrom(batch_error_to_proto(error))
            else:
                response.position.CopyFrom(position_to_proto(receipt.position))
            yield response
            batch += 1

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
        listing = f"documents of {request.collection}"
        after = pages.last_of(listing, request.page_token)
        documents, more = await self._store.page(request.collection, after, limit)
        return document_pb2.ListDocumentsResponse(
            documents=[document_to_proto(document) for document in documents],
            next_page_token=pages.token_after(listing, documents[-1].id) if more else "",
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
