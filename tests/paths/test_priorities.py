"""What callers say about how urgent a request is."""

from __future__ import annotations

import grpc
import pytest

from core.rpc import reason_of
from gateway.lanes import PRIORITY_KEY, Lane
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import search_pb2


async def test_every_lane_is_answered(family: Family, collection: str) -> None:
    position = await family.put(collection, a="ships with sails")
    request = search_pb2.SearchRequest(collection=collection, query="ships", min_position=position)

    for lane in Lane:
        reply = await family.searches.Search(
            request, timeout=SECONDS, metadata=((PRIORITY_KEY, lane.value),)
        )
        assert [hit.document.id for hit in reply.hits] == ["a"]


async def test_a_lane_that_there_is_not_is_refused(family: Family, collection: str) -> None:
    request = search_pb2.SearchRequest(collection=collection, query="ships")

    with pytest.raises(grpc.aio.AioRpcError, match="trireme-priority: 'urgent' is") as refusal:
        await family.searches.Search(request, timeout=SECONDS, metadata=((PRIORITY_KEY, "urgent"),))

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refusal.value) == "MALFORMED"
