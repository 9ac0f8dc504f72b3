"""Migrations between protobuf and what the indexer knows."""

from __future__ import annotations

from dataclasses import asdict

from core.lexical_wire import settings_to_proto
from core.wire import timestamp
from indexer.catalogue import CollectionRecord
from indexer.clock import moment
from indexer.migration.gate import Comparison, Gate
from indexer.migration.migrations import MigrationStatus
from indexer.migration.records import ShadowQuery
from indexer.migration.states import State
from trireme.v1 import collection_pb2, migration_pb2

_STATES = {
    State.BUILDING: migration_pb2.MIGRATION_STATE_BUILDING,
    State.COMPARING: migration_pb2.MIGRATION_STATE_COMPARING,
    State.REFUSED: migration_pb2.MIGRATION_STATE_REFUSED,
    State.READY: migration_pb2.MIGRATION_STATE_READY,
    State.SWITCHED: migration_pb2.MIGRATION_STATE_SWITCHED,
    State.FINISHED: migration_pb2.MIGRATION_STATE_FINISHED,
    State.ROLLED_BACK: migration_pb2.MIGRATION_STATE_ROLLED_BACK,
}


def migration(status: MigrationStatus) -> migration_pb2.Migration:
    """A migration with the progress of its idle index."""
    found = status.migration
    message = migration_pb2.Migration(
        collection=found.live.name,
        state=_STATES[found.state],
        source=index_to_proto(found.source_record),
        target=index_to_proto(found.target_record),
        shards=[
            migration_pb2.MigrationShard(
                shard=progress.shard,
                head_sequence=progress.head,
                indexed_sequence=progress.covers,
                quarantined_count=progress.quarantined,
                stalled_reason=stalled,
            )
            for progress, stalled in status.shards
        ],
        gate=_gate(found.plan.gate),
        auto_switch=found.plan.auto_switch,
        tokens_per_second=found.plan.tokens_per_second,
        query_count=len(found.queries),
        live_queries=found.plan.live_queries,
        message=found.reason,
        create_time=timestamp(moment(found.create_micros)),
    )
    if found.comparison is not None:
        message.comparison.CopyFrom(_comparison(found.comparison))
    if found.switch_micros:
        message.switch_time.CopyFrom(timestamp(moment(found.switch_micros)))
    if found.end_micros:
        message.end_time.CopyFrom(timestamp(moment(found.end_micros)))
    return message


def index_to_proto(record: CollectionRecord) -> collection_pb2.CollectionIndex:
    """What a record says of its index."""
    message = collection_pb2.CollectionIndex(
        name=record.index_name,
        encoder=collection_pb2.ModelVersion(
            model=record.encoder_model,
            version=record.encoder_version,
            fingerprint=record.encoder_fingerprint,
        ),
        passaging=collection_pb2.Passaging(
            max_tokens=record.max_tokens, overlap_tokens=record.overlap_tokens
        ),
        dimensions=record.dimension,
        similarity=record.similarity,
        lexical=settings_to_proto(record.lexical),
    )
    if record.sparse_model:
        message.sparse_encoder.model = record.sparse_model
        message.sparse_encoder.version = record.sparse_version
        message.sparse_encoder.fingerprint = record.sparse_fingerprint
    return message


def query(shadow: ShadowQuery) -> migration_pb2.ShadowQuery:
    """A query to compare by."""
    return migration_pb2.ShadowQuery(text=shadow.text, judgments=shadow.judgments)


def gate_of(message: migration_pb2.Gate) -> Gate:
    """What a comparison must show, not checked."""
    loss = message.max_ndcg_loss if message.HasField("max_ndcg_loss") else None
    return Gate(message.min_overlap, loss)


def comparison_of(message: migration_pb2.Comparison) -> Comparison:
    """What a gateway found, not judged."""
    return Comparison(
        query_count=message.query_count,
        incomplete_count=message.incomplete_count,
        mean_overlap=message.mean_overlap,
        lowest_overlap=message.lowest_overlap,
        lowest_query=message.lowest_query,
        judged_count=message.judged_count,
        source_ndcg=message.source_ndcg,
        target_ndcg=message.target_ndcg,
        ndcg_difference_low=message.ndcg_difference_low,
        ndcg_difference_high=message.ndcg_difference_high,
        compare_micros=0,
    )


def _gate(gate: Gate) -> migration_pb2.Gate:
    return migration_pb2.Gate(min_overlap=gate.min_overlap, max_ndcg_loss=gate.max_ndcg_loss)


def _comparison(found: Comparison) -> migration_pb2.Comparison:
    values = asdict(found)
    compared = timestamp(moment(values.pop("compare_micros")))
    return migration_pb2.Comparison(**values, compare_time=compared)
