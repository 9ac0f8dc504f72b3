"""Which attributes the documents of a shard have, by the files of its segments."""

from __future__ import annotations

from collections.abc import Sequence

from core.filters.columns import ATTRIBUTES, attributes_in
from core.filters.schema import Attribute, Schema
from core.index_store import ShardStore
from core.manifest import SegmentEntry


class SeenAttributes:
    """Reads each segment's attributes once."""

    def __init__(self, files: ShardStore) -> None:
        self._files = files
        self._known: dict[str, Sequence[Attribute] | None] = {}

    def added_to(self, schema: Schema, segments: Sequence[SegmentEntry]) -> Schema:
        """The schema with what these segments' documents have; what it knew it still knows."""
        self._known = {each.id: self._of(each) for each in segments}
        known = self._known.values()
        seen = {attribute for attributes in known for attribute in attributes or ()}
        return schema.with_seen(seen, complete=None not in known)

    def _of(self, segment: SegmentEntry) -> Sequence[Attribute] | None:
        """None for a segment of an earlier format, whose documents alone would tell."""
        if segment.id in self._known:
            return self._known[segment.id]
        paths = [self._files.verify(file) for file in segment.files if file.name == ATTRIBUTES]
        return attributes_in(paths[0]) if paths else None
