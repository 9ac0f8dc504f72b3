"""Every public method refuses whoever may not call it, before it does anything else.

The methods are those of the descriptors: a new one is tried the day that it is added.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from core.rpc import open_channel, reason_of
from core.security.caller import ADMIN, READ, SCOPES, WRITE
from core.security.quotas import Limits
from gateway import rights_wire
from gateway.config import GatewayConfig
from gateway.rights_wire import PUBLIC, RULES, Rule, path_of, request_type
from gateway.server import Gateway
from tests.fakes.credentials import AUDIENCE, ISSUER, Issuer, Keys, Metadata, bearer
from trireme.v1 import search_pb2, search_pb2_grpc

SECONDS = 10.0
COLLECTION = "secret-papers"
METHODS = {path_of(method): method for service in PUBLIC for method in service.methods}
GARBAGE = b"\xff\xff\xff"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
PAST = datetime.now(UTC) - timedelta(hours=1)


@dataclass
class Guarded:
    """A gateway with nothing behind it, and those who make credentials for it."""

    channel: grpc.aio.Channel
    keys: Keys
    issuer: Issuer

    async def call(self, path: str, request: bytes, metadata: Metadata = ()) -> grpc.StatusCode:
        """How a call with these bytes ends."""
        error = await self.failure(path, request, metadata)
        return grpc.StatusCode.OK if error is None else error.code()

    async def failure(self, path: str, *requests: bytes | Metadata) -> grpc.aio.AioRpcError | None:
        sent = [each for each in requests if isinstance(each, bytes)]
        metadata = next((each for each in requests if not isinstance(each, bytes)), ())
        try:
            if METHODS[path].client_streaming:
                stream: Any = self.channel.stream_stream(path)
                async for _ in stream(iter(sent), metadata=metadata, timeout=SECONDS):
                    pass
            else:
                unary: Any = self.channel.unary_unary(path)
                await unary(sent[0], metadata=metadata, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return error
        return None


@pytest_asyncio.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    keys, issuer = Keys(folder / "keys.yaml"), Issuer(folder / "jwks.json")
    # Made before it starts, so that no test waits for the file to be looked at again.
    for scope in SCOPES:
        KEYS[f"{scope}:*"] = keys.add(f"{scope}-all", f"{scope}:*")
        KEYS[f"{scope}:other"] = keys.add(f"{scope}-other", f"{scope}:other")
        KEYS[f"{scope}:{COLLECTION}"] = keys.add(f"{scope}-own", f"{scope}:{COLLECTION}")
    KEYS["nothing"] = keys.add("nothing")
    KEYS["expired"] = keys.add("expired", "admin:*", expires=PAST)
    KEYS["read and write"] = keys.add("both", "read:*", "write:*")
    KEYS["two a minute"] = keys.add("few", "read:*", limits=Limits(requests_per_minute=2))
    config = GatewayConfig(
        address="127.0.0.1:0",
        shards=(),
        indexer_address="127.0.0.1:1",
        triton_address="127.0.0.1:1",
        model_directory=folder,
        api_keys_file=keys.path,
        jwt_jwks=str(issuer.path),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    )
    async with serving(config) as channel:
        yield Guarded(channel, keys, issuer)


KEYS: dict[str, str] = {}


class serving:  # noqa: N801
    """A gateway for the time of a block, though there is no shard that it waits for."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config

    async def __aenter__(self) -> grpc.aio.Channel:
        self._gateway = await Gateway.create(self._config)
        self._starting = asyncio.create_task(self._gateway.start())
        self._channel = open_channel(self._gateway.address)
        await self._channel.channel_ready()
        return self._channel

    async def __aexit__(self, *failure: object) -> None:
        await self._channel.close()
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        await self._gateway.stop(0)


def asking(path: str, name: str = COLLECTION) -> bytes:
    """A request that names `name` wherever the method's rule looks for a collection."""
    request = request_type(path)()
    for field in RULES[path].names:
        _set(request, field.split("."), name)
    return bytes(request.SerializeToString())


def _set(message: Message, path: list[str], name: str) -> None:
    if len(path) == 1:
        setattr(message, path[0], name)
        return
    inner = getattr(message, path[0])
    _set(inner if isinstance(inner, Message) else inner.add(), path[1:], name)


def strangers(guarded: Guarded) -> Mapping[str, tuple[Metadata, str]]:
    """Credentials of nobody, and the reason with which each is refused."""
    issuer, good = guarded.issuer, KEYS["admin:*"]
    past = PAST
    return {
        "none": ((), "CREDENTIALS_MISSING"),
        "empty": ((("authorization", ""),), "CREDENTIALS_MISSING"),
        "another scheme": ((("authorization", f"Basic {good}"),), "CREDENTIALS_INVALID"),
        "another header": ((("x-api-key", good),), "CREDENTIALS_MISSING"),
        "made up": (bearer("trireme_0123456789ab_" + "x" * 43), "CREDENTIALS_INVALID"),
        "wrong secret": (bearer(good[:-4] + "AAAA"), "CREDENTIALS_INVALID"),
        "garbage": (bearer("garbage"), "CREDENTIALS_INVALID"),
        "expired key": (bearer(KEYS["expired"]), "CREDENTIALS_EXPIRED"),
        "expired token": (bearer(issuer.token("admin:*", exp=past)), "CREDENTIALS_EXPIRED"),
        "token for another": (bearer(issuer.token("admin:*", aud="x")), "CREDENTIALS_INVALID"),
    }


def lacking(rule: Rule) -> list[str]:
    """Keys that do not hold what a rule asks for."""
    wrong_scope = {READ: "write:*", WRITE: "read:*", ADMIN: "read and write"}[rule.scope]
    elsewhere = [f"{rule.scope}:other"] if rule.names or rule.everywhere else []
    return ["nothing", wrong_scope, *elsewhere]


@pytest.mark.parametrize("path", sorted(METHODS))
async def test_a_stranger_is_refused_before_the_request_is_read(
    guarded: Guarded, path: str
) -> None:
    for who, (metadata, reason) in strangers(guarded).items():
        error = await guarded.failure(path, GARBAGE, metadata)

        assert error is not None, who
        assert (error.code(), reason_of(error)) == (UNAUTHENTICATED, reason), who


@pytest.mark.parametrize("path", sorted(METHODS))
async def test_credentials_without_the_scope_are_refused(guarded: Guarded, path: str) -> None:
    for who in lacking(RULES[path]):
        error = await guarded.failure(path, asking(path), bearer(KEYS[who]))

        assert error is not None, who
        assert (error.code(), reason_of(error)) == (DENIED, "PERMISSION_DENIED"), who


@pytest.mark.parametrize("path", sorted(METHODS))
async def test_credentials_with_the_scope_are_let_in(guarded: Guarded, path: str) -> None:
    rule = RULES[path]
    own = f"{rule.scope}:{'*' if rule.everywhere else COLLECTION}"
    for credential in (KEYS[own], KEYS["admin:*"], guarded.issuer.token(own)):
        assert await guarded.call(path, asking(path), bearer(credential)) not in (
            UNAUTHENTICATED,
            DENIED,
        )


def test_every_public_method_has_a_rule_and_every_rule_a_method() -> None:
    table = {
        f"/trireme.v1.{service}/{method}"
        for service, rules in rights_wire._TABLE.items()
        for method in rules
    }

    assert set(RULES) == set(METHODS) == table


@pytest.mark.parametrize("path", sorted(METHODS))
def test_every_name_in_a_rule_is_a_field_of_the_request(path: str) -> None:
    rule = RULES[path]
    if rule.names:
        assert asking(path)
    if rule.listing:
        entries = rights_wire.reply_type(path)()
        assert hasattr(getattr(entries, rule.listing).add(), rule.listed)


def collection_fields(method: MethodDescriptor) -> set[str]:
    """Fields of a request, or of what stands in it, that are called after a collection."""
    top: Any = method.input_type
    found = {field.name for field in top.fields if field.name == "collection"}
    nested = [f for f in top.fields if f.message_type is not None]
    return found | {
        f"{outer.name}.{field.name}"
        for outer in nested
        for field in outer.message_type.fields
        if field.name == "collection"
    }


@pytest.mark.parametrize("path", sorted(METHODS))
def test_no_collection_in_a_request_is_overlooked(path: str) -> None:
    rule = RULES[path]
    named = {name.partition(".")[0] for name in rule.names} | set(rule.names)

    for field in collection_fields(METHODS[path]):
        assert field in named or f"{field}.name" in named or rule.everywhere, field


async def test_a_method_without_a_rule_is_open_to_nobody(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = "/trireme.v1.SearchService/Search"
    monkeypatch.delitem(RULES, path)
    config = GatewayConfig(
        "127.0.0.1:0", (), "127.0.0.1:1", "127.0.0.1:1", tmp_path, api_keys_file=guarded.keys.path
    )
    async with serving(config) as channel:
        found = Guarded(channel, guarded.keys, guarded.issuer)
        assert await found.call(path, b"", bearer(KEYS["admin:*"])) is DENIED


async def test_health_is_open_and_reflection_is_not(guarded: Guarded) -> None:
    health: Any = health_pb2_grpc.HealthStub(guarded.channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)).status
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await reflection.ServerReflectionInfo(iter([asked]), timeout=SECONDS).read()
    assert refused.value.code() is UNAUTHENTICATED
    call = reflection.ServerReflectionInfo(
        iter([asked]), metadata=bearer(KEYS["nothing"]), timeout=SECONDS
    )
    assert "SearchService" in str(await call.read())


async def test_one_forbidden_search_of_a_batch_refuses_the_batch(guarded: Guarded) -> None:
    request = search_pb2.BatchSearchRequest()
    request.requests.add(collection="other", query="x")
    request.requests.add(collection=COLLECTION, query="x")
    path = "/trireme.v1.SearchService/BatchSearch"

    code = await guarded.call(path, request.SerializeToString(), bearer(KEYS["read:other"]))

    assert code is DENIED


async def test_a_stream_ends_at_the_message_that_is_refused_after_those_before_it(
    guarded: Guarded,
) -> None:
    stub: Any = search_pb2_grpc.SearchServiceStub(guarded.channel)
    messages = [
        search_pb2.StreamSearchRequest(
            id=name, request=search_pb2.SearchRequest(collection=name, query="x")
        )
        for name in ("other", COLLECTION, "other")
    ]
    replies = stub.StreamSearch(
        iter(messages), metadata=bearer(KEYS["read:other"]), timeout=SECONDS
    )

    assert (await replies.read()).id == "other"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replies.read()
    assert refused.value.code() is DENIED


async def test_an_index_of_a_collection_needs_the_collections_right(guarded: Guarded) -> None:
    path = "/trireme.v1.SearchService/Search"
    for name, refused in (("other~2", False), (f"{COLLECTION}~2", True)):
        code = await guarded.call(path, asking(path, name), bearer(KEYS["read:other"]))
        assert (code is DENIED) is refused


async def test_beyond_its_quota_a_caller_is_told_when_to_come_back(guarded: Guarded) -> None:
    path = "/trireme.v1.SearchService/Search"
    asked, metadata = asking(path), bearer(KEYS["two a minute"])
    for _ in range(2):
        assert await guarded.call(path, asked, metadata) is not grpc.StatusCode.RESOURCE_EXHAUSTED

    error = await guarded.failure(path, asked, metadata)

    assert error is not None
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "QUOTA_EXCEEDED"
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 0 < retry.retry_delay.ToMilliseconds() <= 30_000


async def test_no_log_line_and_no_refusal_holds_a_secret(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/trireme.v1.SearchService/Search"
    token = guarded.issuer.token("read:*")
    wrong = "trireme_0123456789ab_" + "y" * 43
    secrets = [*KEYS.values(), token, wrong, token[:-3] + "abc"]
    details = []

    with caplog.at_level(logging.DEBUG):
        for secret in secrets:
            error = await guarded.failure(path, asking(path), bearer(secret))
            assert error is not None
            details.append(f"{error.details()} {error.trailing_metadata()}")
        guarded.keys.add("another", "read:*")

    said = caplog.text + "".join(str(vars(record)) for record in caplog.records) + str(details)
    for secret in secrets:
        assert secret[-20:] not in said
        assert secret not in said


def test_the_guide_names_the_scope_of_every_method() -> None:
    guide = Path(__file__).parents[2] / "docs" / "security.md"
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(\w+)`", guide.read_text(), re.M)
    told = {
        (f"/trireme.v1.{service}/{method.strip('` ')}", scope)
        for service, methods, scope in rows
        for method in methods.split(",")
    }

    assert told == {(path, rule.scope) for path, rule in RULES.items()}
