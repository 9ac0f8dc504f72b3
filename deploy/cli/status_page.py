"""Collections as tables: one row for each, or one of them shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trireme.v1 import collection_pb2, operations_pb2, vector_index_pb2

Collection = collection_pb2.Collection
Shard = collection_pb2.ShardProgress


def overview(collections: Sequence[Collection]) -> Table:
    """One row for each collection; what is out of the ordinary stands in the last column."""
    table = _table("collection", "documents", "lag", "age", "set aside")
    table.add_column("", overflow="fold")
    for collection in collections:
        shards = collection.shards
        table.add_row(
            collection.name,
            f"{collection.document_count:,}",
            _count(sum(shard.lag_changes for shard in shards)),
            _seconds(max((shard.lag_seconds for shard in shards), default=0.0)),
            _count(sum(shard.quarantined_count for shard in shards)),
            Text("; ".join(_remarks(collection))),
            style="yellow" if any(shard.stalled_reason for shard in shards) else "",
        )
    return table


def collection_page(
    collection: Collection, tasks: Iterable[operations_pb2.IndexTask]
) -> Iterator[RenderableType]:
    """What a collection is, and the state of each of its shards."""
    heading = Text(collection.name, style="bold")
    heading.append(f"  {collection.document_count:,} documents, {_models(collection)}", "not bold")
    yield heading
    for remark in _remarks(collection):
        yield Text(f"  {remark}")
    for task in tasks:
        if task.state != operations_pb2.TASK_STATE_DONE:
            yield Text(f"  {_task(task)}")
    yield _shards(collection)


def _shards(collection: Collection) -> Table:
    table = _table("shard", "generation", "changes", "lag", "age", "speed", "set aside", "recall")
    for shard in collection.shards:
        table.add_row(
            str(shard.shard),
            f"{shard.generation:,}",
            f"{shard.head_sequence:,}",
            _count(shard.lag_changes),
            _seconds(shard.lag_seconds),
            f"{shard.documents_per_second:,.1f}/s" if shard.documents_per_second else "",
            _count(shard.quarantined_count),
            f"{shard.vector_recall:.3f}" if shard.vector_segments else "",
            style="yellow" if shard.stalled_reason else "",
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in headings:
        # A name that is cut short is of no use to the next command.
        is_name = heading == "collection"
        table.add_column(
            heading,
            justify="left" if is_name else "right",
            no_wrap=is_name,
            overflow="fold",
        )
    return table


def _remarks(collection: Collection) -> Iterator[str]:
    for shard in collection.shards:
        if shard.stalled_reason:
            yield f"shard {shard.shard} stands still: {shard.stalled_reason}"
    if collection.HasField("other_index"):
        other = collection.other_index
        yield f"migration: {other.name} ({_model(other.encoder)}) beside"
    if collection.aliases:
        yield f"also {', '.join(collection.aliases)}"
    kinds = Counter[int]()
    for shard in collection.shards:
        kinds.update({each.kind: each.count for each in shard.vector_segments})
    if kinds:
        yield ", ".join(f"{count} {_kind(kind)}" for kind, count in sorted(kinds.items()))


def _kind(kind: int) -> str:
    name = vector_index_pb2.VectorIndexKind.Name(kind)  # type: ignore[arg-type]
    return name.removeprefix("VECTOR_INDEX_KIND_").lower()


def _models(collection: Collection) -> str:
    """The encoders with what is special about their use: `bi_encoder:1 256d dot + splade:2`."""
    words = f"{_model(collection.encoder)} {collection.dimensions}d {collection.similarity}"
    sparse = collection.sparse_encoder
    return f"{words} + {_model(sparse)}" if sparse.model else words


def _model(model: collection_pb2.ModelVersion) -> str:
    return f"{model.model}:{model.version}"


def _task(task: operations_pb2.IndexTask) -> str:
    kind = operations_pb2.TaskKind.Name(task.kind).removeprefix("TASK_KIND_").lower()
    if task.state == operations_pb2.TASK_STATE_WAITING:
        return f"{kind} of shard {task.shard} waits"
    share = f", {100 * task.done // task.total} %" if task.total else ""
    return f"{kind} of shard {task.shard} is under way{share}"


def _count(count: int) -> str:
    return f"{count:,}" if count else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else ""
