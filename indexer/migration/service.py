"""MigrationService: translates between protobuf and `migrations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from core.documents import check_text
from core.errors import InvalidInput
from core.lexical_wire import settings_from_proto
from core.rpc import deadline_of
from indexer.migration import wire
from indexer.migration.gate import Gate
from indexer.migration.migrations import Migrations
from indexer.migration.records import Plan, ShadowQuery
from indexer.migration.target import ModelWish, TargetWish
from trireme.v1 import collection_pb2, migration_pb2, migration_pb2_grpc

Context = Any

BEGIN_SECONDS = 30.0
MAX_QUERIES = 1_000
MAX_JUDGMENTS = 1_000
MAX_QUERY_BYTES = 4_096


class MigrationServicer(migration_pb2_grpc.MigrationServiceServicer):
    """Begins migrations, shows them and moves them on."""

    def __init__(self, migrations: Migrations) -> None:
        self._migrations = migrations

    async def MigrateCollection(  # noqa: N802
        self, request: migration_pb2.MigrateCollectionRequest, context: Context
    ) -> migration_pb2.MigrateCollectionResponse:
        _check_named(request.collection)
        queries = _queries(request.queries)
        plan = Plan(
            gate=_gate(request.gate, queries),
            auto_switch=request.auto_switch,
            tokens_per_second=_count(request.tokens_per_second, "tokens_per_second", 2**31),
            live_queries=_count(request.live_queries, "live_queries", MAX_QUERIES),
        )
        deadline = deadline_of(
            context, default_seconds=BEGIN_SECONDS, longest_seconds=BEGIN_SECONDS
        )
        status = await self._migrations.migrate(
            request.collection, _wish(request), plan, queries, deadline
        )
        return migration_pb2.MigrateCollectionResponse(migration=wire.migration(status))

    async def GetMigration(  # noqa: N802
        self, request: migration_pb2.GetMigrationRequest, context: Context
    ) -> migration_pb2.GetMigrationResponse:
        _check_named(request.collection)
        status = await self._migrations.get(request.collection)
        shown = status.migration.queries if request.with_queries else ()
        return migration_pb2.GetMigrationResponse(
            migration=wire.migration(status), queries=[wire.query(each) for each in shown]
        )

    async def CompareMigration(  # noqa: N802
        self, request: migration_pb2.CompareMigrationRequest, context: Context
    ) -> migration_pb2.CompareMigrationResponse:
        _check_named(request.collection)
        status = await self._migrations.compare(request.collection, _queries(request.queries))
        return migration_pb2.CompareMigrationResponse(migration=wire.migration(status))

    async def RecordComparison(  # noqa: N802
        self, request: migration_pb2.RecordComparisonRequest, context: Context
    ) -> migration_pb2.RecordComparisonResponse:
        _check_named(request.collection)
        status = await self._migrations.record(
            request.collection, request.target_index, wire.comparison_of(request.comparison)
        )
        return migration_pb2.RecordComparisonResponse(migration=wire.migration(status))

    async def SwitchMigration(  # noqa: N802
        self, request: migration_pb2.SwitchMigrationRequest, context: Context
    ) -> migration_pb2.SwitchMigrationResponse:
        _check_named(request.collection)
        status = await self._migrations.switch(request.collection, force=request.force)
        return migration_pb2.SwitchMigrationResponse(migration=wire.migration(status))

    async def RollbackMigration(  # noqa: N802
        self, request: migration_pb2.RollbackMigrationRequest, context: Context
    ) -> migration_pb2.RollbackMigrationResponse:
        _check_named(request.collection)
        status = await self._migrations.roll_back(request.collection, force=request.force)
        return migration_pb2.RollbackMigrationResponse(migration=wire.migration(status))

    async def FinishMigration(  # noqa: N802
        self, request: migration_pb2.FinishMigrationRequest, context: Context
    ) -> migration_pb2.FinishMigrationResponse:
        _check_named(request.collection)
        status = await self._migrations.finish(request.collection)
        return migration_pb2.FinishMigrationResponse(migration=wire.migration(status))


def _check_named(name: str) -> None:
    if not name:
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="collection", remedy="name a collection"
        )


def _wish(request: migration_pb2.MigrateCollectionRequest) -> TargetWish:
    if request.HasField("encoder") and not request.encoder.model:
        raise InvalidInput(
            "FIELD_REQUIRED",
            "is empty",
            field="encoder.model",
            remedy="name a model, or leave encoder out to keep the present one",
        )
    words = settings_from_proto(request.lexical, "lexical.")
    return TargetWish(
        encoder=_model(request, "encoder", request.encoder),
        sparse=_model(request, "sparse_encoder", request.sparse_encoder),
        max_tokens=request.passaging.max_tokens,
        overlap_tokens=request.passaging.overlap_tokens,
        dimensions=request.dimensions,
        lexical=words if request.HasField("lexical") else None,
    )


def _model(request: Message, field: str, model: collection_pb2.ModelVersion) -> ModelWish | None:
    return ModelWish(model.model, model.version) if request.HasField(field) else None


def _queries(given: Sequence[migration_pb2.ShadowQuery]) -> list[ShadowQuery]:
    _count(len(given), "queries", MAX_QUERIES)
    for number, query in enumerate(given):
        field = f"queries[{number}]"
        check_text(query.text, MAX_QUERY_BYTES, f"{field}.text")
        if not query.text.strip():
            raise InvalidInput("FIELD_REQUIRED", "is empty", field=f"{field}.text")
        _count(len(query.judgments), f"{field}.judgments", MAX_JUDGMENTS)
        for id, grade in query.judgments.items():
            _count(grade, f"{field}.judgments[{id}]", 2**31)
    return [ShadowQuery(query.text, dict(query.judgments)) for query in given]


def _gate(given: migration_pb2.Gate, queries: Sequence[ShadowQuery]) -> Gate:
    gate = wire.gate_of(given)
    for name, value in (("min_overlap", gate.min_overlap), ("max_ndcg_loss", gate.max_ndcg_loss)):
        if value is not None and not 0 <= value <= 1:
            raise InvalidInput(
                "OUT_OF_RANGE", f"is {value}", field=f"gate.{name}", remedy="give 0 to 1"
            )
    judged = any(grade > 0 for query in queries for grade in query.judgments.values())
    if gate.max_ndcg_loss is not None and not judged:
        raise InvalidInput(
            "OUT_OF_RANGE",
            "needs queries with judgments, of which there are none",
            field="gate.max_ndcg_loss",
            remedy="give judgments, or leave it out",
        )
    return gate


def _count(number: int, field: str, most: int) -> int:
    if not 0 <= number <= most:
        raise InvalidInput(
            "OUT_OF_RANGE", f"is {number}", field=field, remedy=f"give 0 to {most:,}"
        )
    return number
