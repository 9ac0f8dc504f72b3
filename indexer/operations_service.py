"""OperationsService: translates between protobuf, `upkeep` and the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from core.documents import MAX_BATCH_DOCUMENTS, check_count, check_id
from core.errors import InvalidInput
from core.wire import timestamp
from indexer import catalogue, pages, quarantine
from indexer.catalogue import CollectionRecord
from indexer.clock import moment
from indexer.database import Database
from indexer.fleet import Fleet
from indexer.quarantine import Quarantined, Retried
from indexer.tasks import COMPACT, REBUILD
from indexer.upkeep import TaskStatus, Upkeep
from trireme.v1 import operations_pb2, operations_pb2_grpc

Context = Any

_KINDS = {
    REBUILD: operations_pb2.TASK_KIND_REBUILD,
    COMPACT: operations_pb2.TASK_KIND_COMPACT,
}


class OperationsServicer(operations_pb2_grpc.OperationsServiceServicer):
    """Keeps indexes well and tries again what was set aside."""

    def __init__(self, database: Database, fleet: Fleet, upkeep: Upkeep) -> None:
        self._database = database
        self._fleet = fleet
        self._upkeep = upkeep

    async def RebuildIndex(  # noqa: N802
        self, request: operations_pb2.RebuildIndexRequest, context: Context
    ) -> operations_pb2.RebuildIndexResponse:
        _check_named(request.collection)
        asked = await self._upkeep.ask(request.collection, REBUILD)
        return operations_pb2.RebuildIndexResponse(tasks=map(_task, asked))

    async def CompactIndex(  # noqa: N802
        self, request: operations_pb2.CompactIndexRequest, context: Context
    ) -> operations_pb2.CompactIndexResponse:
        _check_named(request.collection)
        asked = await self._upkeep.ask(request.collection, COMPACT)
        return operations_pb2.CompactIndexResponse(tasks=map(_task, asked))

    async def ListIndexTasks(  # noqa: N802
        self, request: operations_pb2.ListIndexTasksRequest, context: Context
    ) -> operations_pb2.ListIndexTasksResponse:
        _check_named(request.collection)
        found = await self._upkeep.tasks(request.collection)
        return operations_pb2.ListIndexTasksResponse(tasks=map(_task, found))

    async def ListQuarantinedDocuments(  # noqa: N802
        self, request: operations_pb2.ListQuarantinedDocumentsRequest, context: Context
    ) -> operations_pb2.ListQuarantinedDocumentsResponse:
        _check_named(request.collection)
        limit = pages.page_size(request.page_size)

        def query(connection: Connection) -> tuple[str, list[Quarantined]]:
            record = catalogue.find(connection, request.collection)
            # Of the collection itself: an alias may stand for another one by the next page.
            listing = f"quarantine of {record.uid}"
            shard, _, sequence = pages.last_of(listing, request.page_token).partition(":")
            after = (int(shard), int(sequence)) if sequence else (0, 0)
            return listing, quarantine.page(connection, record, after, limit + 1)

        listing, found = await self._database.read(query)
        token = ""
        if len(found) > limit:
            end = found[limit - 1]
            token = pages.token_after(listing, f"{end.shard}:{end.sequence}")
        return operations_pb2.ListQuarantinedDocumentsResponse(
            documents=map(_quarantined, found[:limit]), next_page_token=token
        )

    async def RetryQuarantinedDocuments(  # noqa: N802
        self, request: operations_pb2.RetryQuarantinedDocumentsRequest, context: Context
    ) -> operations_pb2.RetryQuarantinedDocumentsResponse:
        _check_named(request.collection)
        _check_ids(request.ids)
        ids = list(request.ids)

        def job(connection: Connection) -> tuple[CollectionRecord, Retried]:
            record = catalogue.find(connection, request.collection)
            return record, quarantine.retry(connection, record, ids)

        record, retried = await self._database.write(job)
        self._fleet.wake(record.uid, retried.position)
        return operations_pb2.RetryQuarantinedDocumentsResponse(
            retried_count=len(retried.ids), ids=retried.ids
        )


def _check_named(collection: str) -> None:
    if not collection:
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="collection", remedy="name a collection"
        )


def _check_ids(ids: Sequence[str]) -> None:
    if ids:
        check_count(len(ids), "ids", MAX_BATCH_DOCUMENTS)
    for number, each in enumerate(ids):
        check_id(each, f"ids[{number}]")


def _task(status: TaskStatus) -> operations_pb2.IndexTask:
    task, chore = status.task, status.chore
    message = operations_pb2.IndexTask(
        kind=_KINDS[task.kind],
        shard=task.shard,
        state=operations_pb2.TASK_STATE_WAITING,
        create_time=timestamp(moment(task.create_micros)),
    )
    if chore is not None:
        message.state = operations_pb2.TASK_STATE_RUNNING
        message.done, message.total = chore.done, chore.total
    elif task.end_micros:
        message.state = operations_pb2.TASK_STATE_DONE
        message.end_time.CopyFrom(timestamp(moment(task.end_micros)))
    return message


def _quarantined(each: Quarantined) -> operations_pb2.QuarantinedDocument:
    return operations_pb2.QuarantinedDocument(
        id=each.id,
        version=each.version,
        shard=each.shard,
        sequence=each.sequence,
        reason=each.reason,
        attempts=each.attempts,
        first_time=timestamp(moment(each.first_micros)),
        last_time=timestamp(moment(each.last_micros)),
    )
