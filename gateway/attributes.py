"""Reads one attribute of candidates from their shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.deadline import Deadline
from core.wire import value_from_proto
from gateway.fusion import Candidate
from gateway.gathering import gather
from gateway.groups import GroupValue
from gateway.query import Degradation
from gateway.trace import GROUP
from gateway.view import Target, View
from trireme.shard.v1 import shard_pb2


async def read_attribute(
    view: View, attribute: str, candidates: Iterable[Candidate], deadline: Deadline
) -> tuple[Mapping[str, GroupValue], Sequence[Degradation]]:
    """The value of each candidate, None where it has none; shards that do not answer give none."""
    wanted: dict[int, dict[str, None]] = {}
    for candidate in candidates:
        wanted.setdefault(candidate.shard, {})[candidate.id] = None

    def ask(target: Target) -> shard_pb2.ReadAttributeRequest:
        return shard_pb2.ReadAttributeRequest(
            collection=view.collection,
            generation=target.generation,
            ids=wanted[target.shard],
            attribute=attribute,
        )

    gathered = await gather(
        [target for target in view.targets if target.shard in wanted],
        GROUP,
        lambda target, line: line.read_attribute(ask(target), deadline.remaining()),
    )
    values = {
        id: value_from_proto(value)
        for shard, reply in gathered.replies.items()
        for id, value in zip(wanted[shard], reply.values, strict=True)
    }
    return values, gathered.missing
