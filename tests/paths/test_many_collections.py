"""Many small collections beside each other: each answers for itself."""

from __future__ import annotations

import asyncio
import uuid

from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, search_pb2

COLLECTIONS = 30
LEXICAL = search_pb2.SEARCH_MODE_LEXICAL


async def test_every_one_of_many_collections_answers_for_itself(family: Family) -> None:
    unique = uuid.uuid4().hex[:8]
    names = [f"many-{unique}-{n:02}" for n in range(COLLECTIONS)]
    at_once = asyncio.Semaphore(4)

    async def make_and_ask(name: str) -> set[str]:
        async with at_once:
            wanted = collection_pb2.Collection(name=name)
            request = collection_pb2.CreateCollectionRequest(collection=wanted)
            await family.collections.CreateCollection(request, timeout=SECONDS)
            position = await family.put(name, **{f"{name}-{n}": "heart" for n in range(3)})
            reply = await family.search(name, "heart", mode=LEXICAL, min_position=position)
            return {hit.document.id for hit in reply.hits}

    found = await asyncio.gather(*map(make_and_ask, names))

    assert found == [{f"{name}-{n}" for n in range(3)} for name in names]
    request = collection_pb2.ListCollectionsRequest(page_size=1_000)
    listed = (await family.collections.ListCollections(request, timeout=SECONDS)).collections
    counts = {each.name: each.document_count for each in listed}
    assert {name: counts.get(name) for name in names} == dict.fromkeys(names, 3)
    for name in names:
        await family.collections.DeleteCollection(
            collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
        )
