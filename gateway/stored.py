"""Asks the indexer what is stored, whether it is in an index or not."""

from __future__ import annotations

import grpc

from core.deadline import Deadline
from core.errors import IndexerUnavailable, NotFound, OutOfTime
from core.rpc import reason_of
from trireme.v1 import document_pb2, document_pb2_grpc


class StoredDocuments:
    """The document store, as the indexer at the other end of a channel has it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: document_pb2_grpc.DocumentServiceAsyncStub = (
            document_pb2_grpc.DocumentServiceStub(channel)
        )

    async def version(self, collection: str, document_id: str, deadline: Deadline) -> int:
        """The newest stored version of a document, from 1.

        Raises NotFound if there is none, OutOfTime or IndexerUnavailable if nobody says so.
        """
        request = document_pb2.GetDocumentRequest(collection=collection, id=document_id)
        try:
            reply = await self._stub.GetDocument(request, timeout=deadline.remaining())
        except grpc.aio.AioRpcError as error:
            raise _ours(error, collection, document_id) from error
        return reply.document.version


def _ours(
    error: grpc.aio.AioRpcError, collection: str, document_id: str
) -> NotFound | OutOfTime | IndexerUnavailable:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(
            reason_of(error),
            f"{collection!r} has no document {document_id!r}",
            field="document_id",
            remedy="see ListDocuments for the ids",
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return OutOfTime("the indexer did not answer in time", remedy="allow more time")
    return IndexerUnavailable(
        f"the index does not have the document, and the indexer, which knows whether it is stored, "
        f"does not answer: {error.details()}",
        remedy="try again shortly",
    )
