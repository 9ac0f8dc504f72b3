"""A family that speaks TLS only and asks for keys, as its callers see it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from core.rpc import open_channel, reason_of
from core.security.quotas import Limits
from deploy.cli.__main__ import main
from tests.fakes.credentials import Keys, bearer
from tests.fakes.secured import SECONDS, Secured, secured
from tests.load.rotation import rotate_under_load
from trireme.shard.v1 import shard_pb2, shard_pb2_grpc
from trireme.v1 import (
    alias_pb2,
    alias_pb2_grpc,
    collection_pb2,
    collection_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

LEXICAL = search_pb2.SEARCH_MODE_LEXICAL
OPEN, CLOSED = ("open-1", "open-2", "open-3"), ("closed-1", "closed-2")


@dataclass
class Callers:
    """The family with some collections, an alias, and callers who may do different things."""

    family: Secured
    channel: grpc.aio.Channel
    reader: str
    by_alias: str
    mover: str
    few_tokens: str

    async def names(self, key: str, **fields: Any) -> tuple[list[str], str]:
        stub: Any = collection_pb2_grpc.CollectionServiceStub(self.channel)
        request = collection_pb2.ListCollectionsRequest(**fields)
        reply = await stub.ListCollections(request, metadata=bearer(key), timeout=SECONDS)
        return [each.name for each in reply.collections], reply.next_page_token

    async def search(self, key: str, collection: str) -> list[str]:
        stub: Any = search_pb2_grpc.SearchServiceStub(self.channel)
        request = search_pb2.SearchRequest(collection=collection, query="heart", mode=LEXICAL)
        reply = await stub.Search(request, metadata=bearer(key), timeout=SECONDS)
        return [hit.document.id for hit in reply.hits]

    async def move(self, key: str, alias: str, collection: str) -> None:
        stub: Any = alias_pb2_grpc.AliasServiceStub(self.channel)
        wanted = alias_pb2.Alias(name=alias, collection=collection)
        request = alias_pb2.UpdateAliasRequest(alias=wanted)
        await stub.UpdateAlias(request, metadata=bearer(key), timeout=SECONDS)


@pytest_asyncio.fixture(scope="module")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    made: dict[str, str] = {}

    def prepare(keys: Keys) -> None:
        made["reader"] = keys.add("reader", "read:open-*")
        made["by_alias"] = keys.add("by-alias", "read:current")
        made["mover"] = keys.add("mover", "admin:current", "admin:open-*")
        made["few_tokens"] = keys.add("few", "read:*", limits=Limits(model_tokens_per_minute=5))

    async with (
        secured(tmp_path_factory.mktemp("secured"), prepare) as family,
        family.connect() as channel,
    ):
        found = Callers(family, channel, **made)
        for name in (*OPEN, *CLOSED):
            position = await family.fill(channel, name, **{f"{name}-a": "heart of oak"})
        stub: Any = search_pb2_grpc.SearchServiceStub(channel)
        seen = search_pb2.SearchRequest(
            collection=CLOSED[-1], query="heart", mode=LEXICAL, min_position=position
        )
        await stub.Search(seen, metadata=family.metadata, timeout=SECONDS)
        aliases: Any = alias_pb2_grpc.AliasServiceStub(channel)
        for name, collection in (("current", CLOSED[0]), ("other", CLOSED[1])):
            alias = alias_pb2.Alias(name=name, collection=collection)
            request = alias_pb2.CreateAliasRequest(alias=alias)
            await aliases.CreateAlias(request, metadata=family.metadata, timeout=SECONDS)
        yield found


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


@pytest.mark.parametrize("role", ["indexer", "shard-0"])
async def test_roles_answer_their_own_ca_only(callers: Callers, role: str) -> None:
    address = callers.family.cluster.addresses[role]
    known = callers.family.certificates.tls
    for channel in (callers.family.connect(address), grpc.aio.insecure_channel(address)):
        stub: Any = collection_pb2_grpc.CollectionServiceStub(channel)
        call = stub.ListCollections(
            collection_pb2.ListCollectionsRequest(),
            metadata=callers.family.metadata if role == "gateway" else None,
            timeout=SECONDS,
        )
        assert await code_of(call) is grpc.StatusCode.UNAVAILABLE
        await channel.close()
    async with open_channel(address, known) as channel:
        shard: Any = shard_pb2_grpc.ShardServiceStub(channel)
        watch = shard.Watch(shard_pb2.WatchRequest(), timeout=SECONDS)
        if role == "indexer":
            assert await code_of(watch.read()) is grpc.StatusCode.UNIMPLEMENTED
        else:
            assert (await watch.read()).full
            watch.cancel()


async def test_a_listing_shows_what_its_reader_may_read(callers: Callers) -> None:
    assert await callers.names(callers.reader) == (list(OPEN), "")
    everything, _ = await callers.names(callers.family.admin)
    assert set(everything) >= {*OPEN, *CLOSED}


async def test_pages_of_a_listing_hold_no_trace_of_what_lies_between(callers: Callers) -> None:
    found, token, tokens = [], "", []
    for _ in OPEN:
        names, token = await callers.names(callers.reader, page_size=1, page_token=token)
        found += names
        tokens.append(base64.urlsafe_b64decode(token))

    assert (found, token) == (list(OPEN), "")
    assert not any(b"closed" in each for each in tokens)


async def test_aliases_are_listed_by_their_own_names(callers: Callers) -> None:
    stub: Any = alias_pb2_grpc.AliasServiceStub(callers.channel)
    request = alias_pb2.ListAliasesRequest()

    reply = await stub.ListAliases(request, metadata=bearer(callers.by_alias), timeout=SECONDS)
    assert [alias.name for alias in reply.aliases] == ["current"]
    reply = await stub.ListAliases(request, metadata=bearer(callers.reader), timeout=SECONDS)
    assert not reply.aliases


async def test_the_right_to_an_alias_is_not_one_to_its_collection(callers: Callers) -> None:
    assert await callers.search(callers.by_alias, "current") == [f"{CLOSED[0]}-a"]
    for name in (CLOSED[0], f"{CLOSED[0]}~1", "other", "never-was"):
        call = callers.search(callers.by_alias, name)
        assert await code_of(call) is grpc.StatusCode.PERMISSION_DENIED


async def test_an_alias_opens_no_collection_that_its_mover_may_not_have(
    callers: Callers,
) -> None:
    call = callers.move(callers.mover, "current", CLOSED[1])
    assert await code_of(call) is grpc.StatusCode.PERMISSION_DENIED

    await callers.move(callers.mover, "current", OPEN[0])
    assert await callers.search(callers.by_alias, "current") == [f"{OPEN[0]}-a"]
    await callers.move(callers.family.admin, "current", CLOSED[0])


async def test_what_models_read_is_paid_for(callers: Callers) -> None:
    stub: Any = inference_pb2_grpc.InferenceServiceStub(callers.channel)
    request = inference_pb2.EmbedRequest(texts=["one two three four five six seven eight"])
    metadata = bearer(callers.few_tokens)
    await stub.Embed(request, metadata=metadata, timeout=SECONDS)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Embed(request, metadata=metadata, timeout=SECONDS)
    assert reason_of(refused.value) == "QUOTA_EXCEEDED"
    assert "5 model tokens per minute" in (refused.value.details() or "")


async def test_the_cli_gets_in_with_a_ca_and_a_key_in_the_environment(callers: Callers) -> None:
    ca = callers.family.certificates.folder / "ca.crt"
    words = ["search", OPEN[0], "heart", "--mode", "lexical", "--ca", str(ca)]
    words += ["--address", callers.family.address]

    async def invoked(key: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, main, words, env={"TRIREME_API_KEY": key}
        )

    found = await invoked(callers.reader)
    assert found.exit_code == 0, found.output
    assert f"{OPEN[0]}-a" in found.output

    found = await invoked("")
    assert found.exit_code == 1
    assert "CREDENTIALS_MISSING" in found.output


async def test_key_and_certificates_change_under_load_without_a_failed_call(
    callers: Callers,
) -> None:
    seen = await rotate_under_load(callers.family, rounds=2, clients=4)

    assert seen.failed == {}
    assert seen.answered > 0
    assert (len(seen.certificates), seen.refused_keys) == (2, 2)


def test_no_log_holds_a_secret(callers: Callers) -> None:
    logs = "\n".join(
        path.read_text() for path in (callers.family.cluster.config.state / "logs").iterdir()
    )
    given = [callers.reader, callers.by_alias, callers.mover, callers.family.admin]

    assert '"level": "debug"' in logs or '"level": "info"' in logs
    for key in given:
        assert key[-20:] not in logs
    assert "PRIVATE KEY" not in logs
    assert "authorization" not in logs.lower()
