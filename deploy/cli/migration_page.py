"""A migration in words and figures, for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from trireme.v1 import collection_pb2, migration_pb2

SOON = (migration_pb2.MIGRATION_STATE_BUILDING, migration_pb2.MIGRATION_STATE_COMPARING)
"""States that pass by themselves."""

_STATES = {
    migration_pb2.MIGRATION_STATE_BUILDING: "building",
    migration_pb2.MIGRATION_STATE_COMPARING: "comparing",
    migration_pb2.MIGRATION_STATE_REFUSED: "refused by the gate",
    migration_pb2.MIGRATION_STATE_READY: "ready to switch",
    migration_pb2.MIGRATION_STATE_SWITCHED: "switched",
    migration_pb2.MIGRATION_STATE_FINISHED: "finished",
    migration_pb2.MIGRATION_STATE_ROLLED_BACK: "rolled back",
}
_NEXT = {
    migration_pb2.MIGRATION_STATE_REFUSED: "--compare again, --switch --force, or --rollback",
    migration_pb2.MIGRATION_STATE_READY: "--switch, or --rollback",
    migration_pb2.MIGRATION_STATE_SWITCHED: "--finish, or --rollback",
}


def headline(found: migration_pb2.Migration) -> str:
    """State and progress in one line."""
    words = f"{found.collection}: {_STATES[found.state]}"
    if found.state == migration_pb2.MIGRATION_STATE_BUILDING:
        head = sum(shard.head_sequence for shard in found.shards)
        done = sum(shard.indexed_sequence for shard in found.shards)
        words += f", {done:,} of {head:,} changes"
    stalled = [shard.stalled_reason for shard in found.shards if shard.stalled_reason]
    return f"{words}; {stalled[0]}" if stalled else words


def page(found: migration_pb2.Migration) -> Table:
    """Everything that there is to know, and what can be done next."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    for name, value in _rows(found):
        table.add_row(name, value)
    return table


def _rows(found: migration_pb2.Migration) -> Iterator[tuple[str, str]]:
    yield "migration", headline(found)
    yield "from", _index(found.source)
    yield "to", _index(found.target)
    for shard in found.shards:
        quarantined = f", {shard.quarantined_count} set aside" if shard.quarantined_count else ""
        progress = f"{shard.indexed_sequence:,} of {shard.head_sequence:,} changes{quarantined}"
        yield f"shard {shard.shard}", progress
    if found.HasField("comparison"):
        yield from _comparison(found.comparison)
    if found.message:
        yield "why not", found.message
    if found.state in _NEXT:
        yield "next", _NEXT[found.state]


def _index(index: collection_pb2.CollectionIndex) -> str:
    encoders = f"{index.encoder.model}:{index.encoder.version}"
    if index.sparse_encoder.model:
        encoders += f" and {index.sparse_encoder.model}:{index.sparse_encoder.version}"
    cut = f"{index.dimensions} dimensions, {index.passaging.max_tokens} tokens per passage"
    return f"{index.name}: {encoders}, {cut}"


def _comparison(found: migration_pb2.Comparison) -> Iterator[tuple[str, str]]:
    yield "queries", f"{found.query_count}, {found.incomplete_count} not answered whole"
    overlap = f"{found.mean_overlap:.3f}, lowest {found.lowest_overlap:.2f}"
    yield "overlap@10", f"{overlap} for {found.lowest_query!r}" if found.lowest_query else overlap
    if found.judged_count:
        yield (
            "nDCG@10",
            f"{found.source_ndcg:.4f} to {found.target_ndcg:.4f} over {found.judged_count} judged, "
            f"difference {found.ndcg_difference_low:+.4f} to {found.ndcg_difference_high:+.4f}",
        )
    yield "gate", "passed" if found.passed else "not passed"
