"""Aliases as clients see them: everywhere a collection's name, and moved in one step."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import alias_pb2, alias_pb2_grpc, collection_pb2, document_pb2, search_pb2

SWITCHES = 50
LEXICAL = search_pb2.SEARCH_MODE_LEXICAL


class Aliases:
    """Two collections whose documents say where they are, and an alias for one of them."""

    def __init__(self, family: Family, unique: str) -> None:
        self.family = family
        self.name = f"alias-{unique}"
        self.old = f"old-{unique}"
        self.new = f"new-{unique}"
        self.stub: Any = alias_pb2_grpc.AliasServiceStub(family.channel)

    async def create(self, name: str, collection: str) -> alias_pb2.Alias:
        request = alias_pb2.CreateAliasRequest(
            alias=alias_pb2.Alias(name=name, collection=collection)
        )
        reply: alias_pb2.CreateAliasResponse
        reply = await self.stub.CreateAlias(request, timeout=SECONDS)
        return reply.alias

    async def move(self, name: str, collection: str) -> alias_pb2.Alias:
        request = alias_pb2.UpdateAliasRequest(
            alias=alias_pb2.Alias(name=name, collection=collection)
        )
        reply: alias_pb2.UpdateAliasResponse
        reply = await self.stub.UpdateAlias(request, timeout=SECONDS)
        return reply.alias

    async def remove(self, name: str) -> None:
        await self.stub.DeleteAlias(alias_pb2.DeleteAliasRequest(name=name), timeout=SECONDS)

    async def delete_collection(self, name: str) -> None:
        request = collection_pb2.DeleteCollectionRequest(name=name)
        await self.family.collections.DeleteCollection(request, timeout=SECONDS)

    async def found(self, **fields: Any) -> search_pb2.SearchResponse:
        return await self.family.search(self.name, "heart", mode=LEXICAL, **fields)


@pytest_asyncio.fixture
async def aliases(family: Family) -> AsyncIterator[Aliases]:
    aliases = Aliases(family, uuid.uuid4().hex[:12])
    for name in (aliases.old, aliases.new):
        wanted = collection_pb2.Collection(name=name)
        request = collection_pb2.CreateCollectionRequest(collection=wanted)
        await family.collections.CreateCollection(request, timeout=SECONDS)
        texts = {f"{name}-{n}": f"heart number {n}" for n in range(6)}
        position = await family.put(name, **texts)
        await family.search(name, "heart", mode=LEXICAL, min_position=position)
    await aliases.create(aliases.name, aliases.old)
    yield aliases
    listed = await aliases.stub.ListAliases(alias_pb2.ListAliasesRequest(), timeout=SECONDS)
    for alias in listed.aliases:
        await aliases.remove(alias.name)
    for name in (aliases.old, aliases.new):
        await aliases.delete_collection(name)


def of(reply: search_pb2.SearchResponse) -> set[str]:
    """The collections that an answer's documents are of."""
    return {hit.document.id.rpartition("-")[0] for hit in reply.hits}


async def refused(call: Any) -> tuple[str, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, reason_of(caught.value), caught.value.details() or ""


async def test_an_alias_is_used_like_the_collection_itself(aliases: Aliases) -> None:
    family = aliases.family

    position = await family.put(aliases.name, added="heart of the matter")
    reply = await aliases.found(min_position=position)
    got = await family.collections.GetCollection(
        collection_pb2.GetCollectionRequest(name=aliases.name), timeout=SECONDS
    )
    document = await family.documents.GetDocument(
        document_pb2.GetDocumentRequest(collection=aliases.name, id="added"), timeout=SECONDS
    )
    listed = await family.documents.ListDocuments(
        document_pb2.ListDocumentsRequest(collection=aliases.name), timeout=SECONDS
    )
    await family.delete(aliases.name, "added")

    assert "added" in {hit.document.id for hit in reply.hits}
    assert (got.collection.name, list(got.collection.aliases)) == (aliases.old, [aliases.name])
    assert document.document.text == "heart of the matter"
    assert len(listed.documents) == 6 + 1


async def test_searches_see_a_move_once_it_is_answered(aliases: Aliases) -> None:
    assert of(await aliases.found()) == {aliases.old}

    moved = await aliases.move(aliases.name, aliases.new)

    assert of(await aliases.found()) == {aliases.new}
    assert moved.collection == aliases.new
    assert moved.update_time.ToMicroseconds() > moved.create_time.ToMicroseconds()
    await aliases.remove(aliases.name)
    code, reason, said = await refused(aliases.found())
    assert (code, reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert aliases.name in said


async def test_every_answer_is_of_one_collection_while_an_alias_moves(aliases: Aliases) -> None:
    seen: list[set[str]] = []
    moving = True

    async def keep_searching() -> None:
        while moving:
            reply = await aliases.found(page_size=20)
            assert len(reply.hits) == 6
            assert not reply.degraded
            seen.append(of(reply))

    searching = [asyncio.create_task(keep_searching()) for _ in range(4)]
    for n in range(SWITCHES):
        await aliases.move(aliases.name, aliases.old if n % 2 else aliases.new)
    moving = False
    await asyncio.gather(*searching)

    assert len(seen) > SWITCHES
    assert all(len(collections) == 1 for collections in seen)
    assert {name for collections in seen for name in collections} == {aliases.old, aliases.new}


async def test_pages_go_on_with_the_collection_that_they_began_with(aliases: Aliases) -> None:
    first = await aliases.found(page_size=2)
    await aliases.move(aliases.name, aliases.new)

    second = await aliases.found(page_size=2, page_token=first.next_page_token)

    assert of(first) == of(second) == {aliases.old}
    ids = [hit.document.id for reply in (first, second) for hit in reply.hits]
    assert len(set(ids)) == 2 + 2


async def test_pages_of_a_collection_that_is_gone_have_expired(aliases: Aliases) -> None:
    first = await aliases.found(page_size=2)
    await aliases.move(aliases.name, aliases.new)
    await aliases.delete_collection(aliases.old)

    code, reason, _ = await refused(aliases.found(page_size=2, page_token=first.next_page_token))

    assert (code, reason) == ("FAILED_PRECONDITION", "PAGE_TOKEN_EXPIRED")
    await aliases.family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=aliases.old)
        ),
        timeout=SECONDS,
    )


async def test_a_listing_does_not_go_on_in_another_collection(aliases: Aliases) -> None:
    request = document_pb2.ListDocumentsRequest(collection=aliases.name, page_size=2)
    first = await aliases.family.documents.ListDocuments(request, timeout=SECONDS)
    await aliases.move(aliases.name, aliases.new)
    request.page_token = first.next_page_token

    code, reason, _ = await refused(
        aliases.family.documents.ListDocuments(request, timeout=SECONDS)
    )

    assert (code, reason) == ("INVALID_ARGUMENT", "BAD_PAGE_TOKEN")


async def test_a_collection_is_kept_while_aliases_stand_for_it(aliases: Aliases) -> None:
    code, reason, said = await refused(aliases.delete_collection(aliases.old))

    assert (code, reason) == ("FAILED_PRECONDITION", "COLLECTION_HAS_ALIASES")
    assert aliases.name in said
    assert of(await aliases.found()) == {aliases.old}


async def test_names_are_taken_once(aliases: Aliases) -> None:
    twice = await refused(aliases.create(aliases.name, aliases.new))
    as_collection = await refused(aliases.create(aliases.old, aliases.new))
    wanted = collection_pb2.Collection(name=aliases.name)
    as_alias = await refused(
        aliases.family.collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=wanted), timeout=SECONDS
        )
    )

    assert twice[:2] == ("ALREADY_EXISTS", "ALIAS_EXISTS")
    assert as_collection[:2] == ("ALREADY_EXISTS", "COLLECTION_EXISTS")
    assert as_alias[:2] == ("ALREADY_EXISTS", "ALIAS_EXISTS")


async def test_aliases_are_listed_page_by_page(aliases: Aliases) -> None:
    names = sorted([aliases.name, f"{aliases.name}-b", f"{aliases.name}-c"])
    for name in names[1:]:
        await aliases.create(name, aliases.new)

    listed: list[alias_pb2.Alias] = []
    token = ""
    while True:
        request = alias_pb2.ListAliasesRequest(page_size=1, page_token=token)
        page = await aliases.stub.ListAliases(request, timeout=SECONDS)
        listed += page.aliases
        token = page.next_page_token
        if not token:
            break

    assert [alias.name for alias in listed] == names
    one = await aliases.stub.GetAlias(alias_pb2.GetAliasRequest(name=names[1]), timeout=SECONDS)
    assert one.alias == listed[1]


async def test_a_wrong_request_names_its_field(aliases: Aliases) -> None:
    update = alias_pb2.UpdateAliasRequest(
        alias=alias_pb2.Alias(name=aliases.name, collection=aliases.new)
    )
    update.update_mask.paths.append("name")
    refusals = [
        (aliases.create("Not A Name", aliases.old), "MALFORMED", "alias.name"),
        (aliases.create("", aliases.old), "FIELD_REQUIRED", "alias.name"),
        (aliases.create("fresh", ""), "FIELD_REQUIRED", "alias.collection"),
        (aliases.create("fresh", "absent"), "COLLECTION_NOT_FOUND", "alias.collection"),
        (aliases.create("fresh", aliases.name), "COLLECTION_NOT_FOUND", "alias.collection"),
        (aliases.move("absent", aliases.old), "ALIAS_NOT_FOUND", "alias.name"),
        (aliases.remove("absent"), "ALIAS_NOT_FOUND", "name"),
        (aliases.stub.UpdateAlias(update, timeout=SECONDS), "MALFORMED", "update_mask"),
    ]
    for call, wanted, field in refusals:
        _, reason, said = await refused(call)
        assert (reason, said.partition(":")[0]) == (wanted, field)
