"""Asks the indexer what is to be compared, and tells it what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import grpc

from core.errors import IndexerUnavailable
from gateway.config import GatewayConfig
from gateway.query import Query
from gateway.request_wire import query_from_proto
from gateway.shadow_figures import DEPTH, Figures, ShadowQuery
from trireme.v1 import migration_pb2, migration_pb2_grpc, search_pb2

CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A comparison that is asked for, of two indexes by internal name.

    Without `queries`, by `live_queries` of the latest that were asked of the collection.
    """

    collection: str
    source: str
    target: str
    queries: Sequence[ShadowQuery]
    live_queries: int


class ComparisonDesk:
    """The migrations of the indexer at the other end of a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: migration_pb2_grpc.MigrationServiceAsyncStub = (
            migration_pb2_grpc.MigrationServiceStub(channel)
        )

    async def wanted(self, collection: str) -> Wanted | None:
        """The comparison that a collection waits for; raises IndexerUnavailable."""
        request = migration_pb2.GetMigrationRequest(collection=collection)
        try:
            reply = await self._stub.GetMigration(request, timeout=CALL_SECONDS)
            if reply.migration.state != migration_pb2.MIGRATION_STATE_COMPARING:
                return None
            request.with_queries = True
            reply = await self._stub.GetMigration(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise IndexerUnavailable(error.details() or "it does not answer") from error
        found = reply.migration
        return Wanted(
            collection=collection,
            source=found.source.name,
            target=found.target.name,
            queries=[ShadowQuery(each.text, dict(each.judgments)) for each in reply.queries],
            live_queries=found.live_queries,
        )

    async def record(self, wanted: Wanted, found: Figures) -> None:
        """Hands in what was found; raises IndexerUnavailable."""
        request = migration_pb2.RecordComparisonRequest(
            collection=wanted.collection,
            target_index=wanted.target,
            comparison=migration_pb2.Comparison(**asdict(found)),
        )
        try:
            await self._stub.RecordComparison(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise IndexerUnavailable(error.details() or "it does not answer") from error


def shadow_search(index: str, text: str, config: GatewayConfig) -> Query:
    """A search of one index for as many hits as are compared, by its search defaults."""
    request = search_pb2.SearchRequest(collection=index, query=text, page_size=DEPTH)
    return query_from_proto(request, config)
