"""Hands the calls that the indexer answers on to it, bytes for bytes, so that clients need one
address. Changes of collections and aliases are answered once searches see them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from core import tracing
from core.errors import IndexerUnavailable
from core.rpc import reason_of, status_of
from gateway.topology import Topology
from trireme.v1 import (
    alias_pb2,
    collection_pb2,
    document_pb2,
    migration_pb2,
    operations_pb2,
    snapshot_pb2,
)

SERVICES = (
    document_pb2.DESCRIPTOR.services_by_name["DocumentService"],
    collection_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    alias_pb2.DESCRIPTOR.services_by_name["AliasService"],
    migration_pb2.DESCRIPTOR.services_by_name["MigrationService"],
    operations_pb2.DESCRIPTOR.services_by_name["OperationsService"],
    snapshot_pb2.DESCRIPTOR.services_by_name["SnapshotService"],
)
CREATE = "/trireme.v1.CollectionService/CreateCollection"
UPDATE = "/trireme.v1.CollectionService/UpdateCollection"
DELETE = "/trireme.v1.CollectionService/DeleteCollection"
RESTORE = "/trireme.v1.SnapshotService/RestoreSnapshot"
CREATE_ALIAS = "/trireme.v1.AliasService/CreateAlias"
MOVE_ALIAS = "/trireme.v1.AliasService/UpdateAlias"
DELETE_ALIAS = "/trireme.v1.AliasService/DeleteAlias"
SWITCH = "/trireme.v1.MigrationService/SwitchMigration"
ROLL_BACK = "/trireme.v1.MigrationService/RollbackMigration"
SETTLE_SECONDS = 2.0
# How gRPC itself reports a peer that died, the second when it died under a send. The indexer's own
# errors carry a reason.
_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)

Context = grpc.aio.ServicerContext[Any, Any]


class Passthrough(grpc.GenericRpcHandler):
    """A handler for every method of these services, and for no other."""

    def __init__(self, channel: grpc.aio.Channel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology
        self._handlers = {
            f"/{service.full_name}/{method.name}": self._handler(
                f"/{service.full_name}/{method.name}", method.client_streaming
            )
            for service in SERVICES
            for method in service.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: str, streaming: bool) -> Any:
        if streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method))
        return grpc.unary_unary_rpc_method_handler(self._unary(method))

    def _unary(self, method: str) -> Any:
        send: Any = self._channel.unary_unary(method)

        async def forward(request: bytes, context: Context) -> bytes:
            try:
                response: bytes = await send(
                    request, timeout=context.time_remaining(), metadata=tracing.outgoing()
                )
            except grpc.aio.AioRpcError as error:
                await _pass_on(error, context)
                raise
            await self._settle(method, request, response)
            return response

        return forward

    def _stream(self, method: str) -> Any:
        open_stream: Any = self._channel.stream_stream(method)

        async def forward(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            metadata = tracing.outgoing()
            try:
                async for response in open_stream(
                    requests, timeout=context.time_remaining(), metadata=metadata
                ):
                    yield response
            except grpc.aio.AioRpcError as error:
                await _pass_on(error, context)

        return forward

    async def _settle(self, method: str, request: bytes, response: bytes) -> None:
        """Waits a moment until shards serve what was created or changed, not what was deleted."""
        topology = self._topology
        if method == CREATE:
            name = collection_pb2.CreateCollectionRequest.FromString(request).collection.name
            await topology.until(lambda: topology.serves(name), SETTLE_SECONDS)
        elif method == RESTORE:
            restored = snapshot_pb2.RestoreSnapshotResponse.FromString(response).collection.name
            await topology.until(lambda: topology.serves(restored), SETTLE_SECONDS)
        elif method == DELETE:
            name = collection_pb2.DeleteCollectionRequest.FromString(request).name
            await topology.until(lambda: topology.serves_nowhere(name), SETTLE_SECONDS)
        elif method == UPDATE:
            changed = collection_pb2.UpdateCollectionResponse.FromString(response).collection
            await topology.until(
                lambda: topology.ranks_by(changed.name, changed.search_defaults), SETTLE_SECONDS
            )
        elif method in (CREATE_ALIAS, MOVE_ALIAS):
            alias = alias_pb2.UpdateAliasRequest.FromString(request).alias
            await topology.until(
                lambda: topology.stands_for(alias.name) == alias.collection, SETTLE_SECONDS
            )
        elif method in (SWITCH, ROLL_BACK):
            moved = migration_pb2.SwitchMigrationResponse.FromString(response).migration
            answers = moved.target.name if method == SWITCH else moved.source.name
            await topology.until(
                lambda: topology.index(moved.collection) == answers, SETTLE_SECONDS
            )
        elif method == DELETE_ALIAS:
            name = alias_pb2.DeleteAliasRequest.FromString(request).name
            await topology.until(lambda: topology.stands_for(name) == name, SETTLE_SECONDS)


async def _pass_on(error: grpc.aio.AioRpcError, context: Context) -> None:
    """Ends the call as the indexer ended it; a lost indexer gets a reason of its own."""
    if error.code() in _BROKEN and not reason_of(error):
        lost = IndexerUnavailable(
            f"the indexer does not answer: {error.details()}",
            remedy="try again shortly with the same request id; searches are not affected",
        )
        await context.abort_with_status(status_of(lost))
    metadata = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", metadata)
