"""Several segments become one, without their dead rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.columns import column
from core.errors import TriremeError
from core.filters.columns import AttributeColumns
from core.manifest import IndexEntry
from core.segment import Rows, Segment, Vectors
from core.segment_writing import write_tables
from core.sparse import Postings
from core.vectors.choosing import FLAT_PLAN, Plan
from core.vectors.sealing import Check, write_vectors

_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Merged:
    """The files of a new segment, and how its vectors are searched; None: one by one."""

    paths: tuple[Path, ...]
    index: IndexEntry | None


def merge_segments(
    segments: Sequence[Segment],
    directory: Path,
    plan: Plan = FLAT_PLAN,
    check: Check = lambda: None,
) -> Merged:
    """Writes one segment with the live rows of several; weights are copied as they are.

    So are vectors, into the planned kind of index. All segments must have the same similarity, and
    a learned-sparse part or none. Raises what `check` raises, which is called now and then.
    """
    kinds = {(segment.similarity, segment.sparse is None) for segment in segments}
    if len(kinds) != 1:
        raise TriremeError("segments of different kinds cannot be merged")
    documents = pa.concat_tables([s.documents.take(pa.array(s.live_rows)) for s in segments])
    by_sequence = np.argsort(documents["sequence"].to_numpy(), kind="stable")
    place = _places(by_sequence)
    starts = np.cumsum([0, *(len(s.live_rows) for s in segments)])
    tables = [_live_passages(s, place[a:]) for s, a in zip(segments, starts, strict=False)]
    passages = pa.concat_tables(tables)
    by_document = np.argsort(passages["document"].to_numpy(), kind="stable")
    paths = write_tables(
        directory,
        documents.take(pa.array(by_sequence)),
        passages.take(pa.array(by_document)),
        AttributeColumns.joined(
            [
                (s.filter.columns, _new_rows(s, place[a:]))
                for s, a in zip(segments, starts, strict=False)
            ],
            len(documents),
        ),
        _live_postings(segments, _places(by_document)),
    )
    del documents, passages, tables
    first = segments[0]
    blocks = _vectors(segments, by_document)
    sealed = write_vectors(directory, blocks, first.dimension, first.similarity, plan, check)
    entry = IndexEntry(sealed.kind, sealed.effort, sealed.recall, sealed.queries)
    return Merged((*sealed.paths, *paths), entry if sealed.queries else None)


def _vectors(segments: Sequence[Segment], order: Rows) -> Iterator[Vectors]:
    """The vectors of the segments' live passages, counted on through them, in an order."""
    live = [segment.live_passage_rows for segment in segments]
    starts = np.cumsum([0, *(len(rows) for rows in live)])
    for first in range(0, len(order), _BLOCK):
        chosen = order[first : first + _BLOCK]
        owners = np.searchsorted(starts, chosen, side="right") - 1
        block = np.empty((len(chosen), segments[0].dimension), np.float32)
        for owner in np.unique(owners).tolist():
            own = owners == owner
            rows = live[owner][chosen[own] - starts[owner]]
            block[own] = segments[owner].index.decoded(rows)
        yield block


def _places(order: Rows) -> Rows:
    """Where each row goes when rows are put into `order`."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _new_rows(segment: Segment, place: Rows) -> Rows:
    """The new row of each document, -1 for the dead: `place` of the nth live document."""
    new_row = np.full(len(segment.documents), -1)
    new_row[segment.live_rows] = place[: len(segment.live_rows)]
    return new_row


def _live_passages(segment: Segment, place: Rows) -> pa.Table:
    """A segment's live passages under their new document rows: `place` of the nth live document."""
    new_row = _new_rows(segment, place)
    live = segment.live_passage_rows
    table = segment.passages.take(pa.array(live))
    document = column(segment.passages, "document")
    return table.set_column(0, "document", pa.array(new_row[document[live]], pa.uint32()))


def _live_postings(segments: Sequence[Segment], place: Rows) -> Postings | None:
    """The live postings of all segments: `place` has the new row of the nth live passage of all."""
    parts = []
    first = 0
    for segment in segments:
        if segment.sparse is None:
            return None
        live = segment.live_passage_rows
        new_row = np.full(len(segment.passages), -1)
        new_row[live] = place[first : first + len(live)]
        parts.append(segment.sparse.read().moved(new_row))
        first += len(live)
    return Postings.join(parts)
