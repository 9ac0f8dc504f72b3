"""TLS between roles: who is let in, and certificates that change while calls are made."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.errors import BadEnvironment
from core.fsops import replace_file
from core.role_server import LIVENESS, RoleServer, Serving
from core.rpc import open_channel
from core.security.tls import NO_TLS, TlsSettings
from tests.fakes.credentials import Certificates

SECONDS = 10.0
SERVING = health_pb2.HealthCheckResponse.SERVING


def nothing(server: grpc.aio.Server) -> Sequence[str]:
    return []


@dataclass
class Running:
    address: str
    server: RoleServer


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    server = RoleServer.create("127.0.0.1:0", nothing, [], Serving(**settings))
    await server.start()
    await server.ready()
    yield Running(f"127.0.0.1:{server.port}", server)
    await server.stop(0)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "tls")


async def health(channel: grpc.aio.Channel, service: str = "") -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(request, timeout=SECONDS)).status


async def shown(address: str) -> str:
    """The certificate that a new connection is shown, as PEM."""
    host, _, port = address.rpartition(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def test_a_role_with_a_certificate_of_the_ca_is_answered(certificates: Certificates) -> None:
    mutual = TlsSettings.of_mapping(certificates.mutual)
    async with running(tls=mutual) as role, open_channel(role.address, mutual) as channel:
        assert await health(channel) == SERVING


async def test_whoever_has_none_of_that_ca_is_not(
    certificates: Certificates, tmp_path: Path
) -> None:
    strangers = Certificates(tmp_path / "strangers")
    strange = {**strangers.settings, "tls_ca_file": certificates.settings["tls_ca_file"]}
    expired = Certificates(tmp_path / "expired", certificates.ca)
    expired.renew(expires=datetime.now(UTC) - timedelta(hours=1))
    async with running(tls=TlsSettings.of_mapping(certificates.mutual)) as role:
        attempts = [
            grpc.aio.insecure_channel(role.address),
            grpc.aio.secure_channel(role.address, certificates.anonymous),
            open_channel(role.address, TlsSettings.of_mapping(strange)),
            open_channel(role.address, expired.tls),
        ]
        for channel in attempts:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            await channel.close()


async def test_a_caller_does_not_talk_to_a_role_that_is_not_of_its_ca(
    certificates: Certificates, tmp_path: Path
) -> None:
    impostor = Certificates(tmp_path / "impostor")
    async with (
        running(tls=impostor.tls) as role,
        open_channel(role.address, certificates.tls) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_new_connections_are_shown_the_certificate_that_is_there(
    certificates: Certificates,
) -> None:
    async with running(tls=certificates.tls) as role:
        before = await shown(role.address)
        certificates.renew()
        after = await shown(role.address)

    assert before != after
    assert after.split() == (certificates.folder / "tls.crt").read_text().split()


async def test_calls_go_on_while_certificates_change(certificates: Certificates) -> None:
    mutual = TlsSettings.of_mapping(certificates.mutual)
    done = 0
    async with running(tls=mutual) as role, open_channel(role.address, mutual) as channel:
        for _ in range(10):
            certificates.renew()
            mutual.certificates.look()
            answers = await asyncio.gather(*(health(channel) for _ in range(5)))
            done += answers.count(SERVING)
        assert repr(channel) == f"<RenewingChannel to {role.address}, 10 older>"

    assert done == 10 * 5


async def test_a_stream_outlives_the_certificate_that_it_began_with(
    certificates: Certificates,
) -> None:
    mutual = TlsSettings.of_mapping(certificates.mutual)
    async with running(tls=mutual) as role, open_channel(role.address, mutual) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert (await watch.read()).status == SERVING

        certificates.renew()
        mutual.certificates.look()
        assert await health(channel) == SERVING
        await role.server.retire()

        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_a_key_that_is_not_the_certificates_changes_nothing(
    certificates: Certificates, tmp_path: Path
) -> None:
    stranger = Certificates(tmp_path / "stranger")
    async with running(tls=certificates.tls) as role:
        before = await shown(role.address)
        replace_file(certificates.folder / "tls.key", (stranger.folder / "tls.key").read_bytes())

        assert await shown(role.address) == before


async def test_health_is_open_where_nothing_else_is(certificates: Certificates) -> None:
    mutual = TlsSettings.of_mapping(certificates.mutual)
    async with running(tls=mutual, health_address="127.0.0.1:0") as role:
        alone = f"127.0.0.1:{role.server.health_port}"
        async with grpc.aio.insecure_channel(alone) as channel:
            assert await health(channel) == SERVING
            await role.server.retire()
            assert await health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await health(channel, LIVENESS) == SERVING


@pytest.mark.parametrize("reflection", [True, False])
async def test_reflection_can_be_switched_off(reflection: bool) -> None:
    async with running(reflection=reflection) as role:
        assert ("grpc.reflection.v1alpha.ServerReflection" in await services(role)) is reflection


async def services(role: Running) -> str:
    """What reflection lists, or the code with which it does not."""
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with open_channel(role.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        try:
            reply = await stub.ServerReflectionInfo(iter([asked])).read()
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return str(reply)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"tls_key_file": None}, "tls_certificate_file, tls_key_file"),
        ({"tls_ca_file": Path("/no/such/ca.crt")}, "ca.crt"),
        ({"tls_key_file": "tls.crt"}, "its own key"),
        ({"tls_certificate_file": None, "tls_key_file": None}, "tls_certificate_file"),
    ],
)
def test_files_that_do_not_belong_together_are_named(
    certificates: Certificates, change: dict[str, Any], names: str
) -> None:
    if change.get("tls_key_file") == "tls.crt":
        change = {"tls_key_file": str(certificates.folder / "tls.crt")}

    with pytest.raises(BadEnvironment, match=names):
        TlsSettings.of_mapping({**certificates.mutual, **change}).server_credentials()


def test_without_settings_nothing_is_encrypted() -> None:
    assert not NO_TLS.serves
    assert not NO_TLS.calls
    assert NO_TLS.server_context() is None
