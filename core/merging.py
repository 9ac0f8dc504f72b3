"""Several segments become one, without their dead rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.columns import column
from core.errors import TriremeError
from core.segment import Rows, Segment, write_tables
from core.sparse import Postings


def merge_segments(segments: Sequence[Segment], directory: Path) -> tuple[Path, ...]:
    """Writes one segment with the live rows of several; vectors and weights are copied as they are.

    All must have the same similarity, and a learned-sparse part or none.
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
    vectors = np.concatenate([s.vectors[s.live_passage_rows] for s in segments])[by_document]
    return write_tables(
        directory,
        documents.take(pa.array(by_sequence)),
        passages.take(pa.array(by_document)),
        vectors,
        segments[0].similarity,
        _live_postings(segments, _places(by_document)),
    )


def _places(order: Rows) -> Rows:
    """Where each row goes when rows are put into `order`."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _live_passages(segment: Segment, place: Rows) -> pa.Table:
    """A segment's live passages under their new document rows: `place` of the nth live document."""
    new_row = np.zeros(len(segment.documents), np.uint32)
    new_row[segment.live_rows] = place[: len(segment.live_rows)]
    live = segment.live_passage_rows
    table = segment.passages.take(pa.array(live))
    document = column(segment.passages, "document")
    return table.set_column(0, "document", pa.array(new_row[document[live]]))


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
