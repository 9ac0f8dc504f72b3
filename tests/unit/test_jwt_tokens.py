"""Tokens: what is checked of them, and how the keys of their issuer may change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import (
    BadEnvironment,
    CredentialsExpired,
    CredentialsInvalid,
    IdentityUnavailable,
    Unauthenticated,
)
from core.security import jwks
from core.security.caller import READ, WRITE, Caller
from core.security.identity import Identity
from core.security.settings import SecuritySettings
from tests.fakes.credentials import AUDIENCE, ISSUER, Issuer


def from_now(**of: float) -> datetime:
    """A moment so far from now; before now, if that is less than 0."""
    return datetime.now(UTC) + timedelta(**of)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path / "jwks.json")


def settings(place: str) -> SecuritySettings:
    return SecuritySettings(jwt_jwks=place, jwt_issuer=ISSUER, jwt_audience=AUDIENCE)


def identity(place: str) -> Identity:
    found = Identity.create(settings(place))
    assert found is not None
    return found


async def admitted(issuer: Issuer, token: str) -> Caller:
    found = identity(str(issuer.path))
    return await found.authenticate({"authorization": f"Bearer {token}"})


async def test_a_token_speaks_for_its_subject_with_the_grants_in_its_scope(
    issuer: Issuer,
) -> None:
    caller = await admitted(issuer, issuer.token("openid read:papers-* write:notes"))

    assert caller.name == f"{ISSUER}#someone"
    assert caller.may(READ, "papers-1")
    assert caller.may(WRITE, "notes")
    assert not caller.may(READ, "notes")


async def test_grants_may_stand_in_a_list(issuer: Issuer) -> None:
    token = issuer.token(["read:papers", "nonsense"])

    assert (await admitted(issuer, token)).may(READ, "papers")


async def test_clocks_may_differ_a_little(issuer: Issuer) -> None:
    just_over = from_now(seconds=-10)

    assert (await admitted(issuer, issuer.token("read:*", exp=just_over))).name


async def test_a_token_is_good_until_it_expires(issuer: Issuer) -> None:
    with pytest.raises(CredentialsExpired):
        await admitted(issuer, issuer.token("read:*", exp=from_now(minutes=-2)))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://elsewhere.test"},
        {"iss": None},
        {"exp": None},
        {"sub": None},
        {"nbf": from_now(hours=5)},
    ],
    # Not the claims themselves: every process must know a test by the same name.
    ids=["audience", "no-audience", "issuer", "no-issuer", "no-expiry", "no-subject", "not-yet"],
)
async def test_a_token_that_is_not_for_us_is_refused(
    issuer: Issuer, claims: dict[str, Any]
) -> None:
    with pytest.raises(CredentialsInvalid):
        await admitted(issuer, issuer.token("admin:*", **claims))


def unsigned(issuer: Issuer) -> str:
    claims = issuer.token("admin:*").split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"one"}').rstrip(b"=")
    return f"{header.decode()}.{claims}."


def signed_with_the_public_key(issuer: Issuer) -> str:
    """By HMAC, with what everybody can read as the secret."""
    claims = issuer.token("admin:*").split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"one"}').rstrip(b"=")
    signed = f"{header.decode()}.{claims}"
    secret = json.dumps(issuer.jwks["keys"][0]).encode()
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_a_stranger(issuer: Issuer) -> str:
    stranger = ec.generate_private_key(ec.SECP256R1())
    claims = jwt.decode(issuer.token("admin:*"), options={"verify_signature": False})
    return jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": "one"})


def by_an_unknown_key(issuer: Issuer) -> str:
    elsewhere = Issuer(issuer.path.with_name("elsewhere"))
    elsewhere.rotate("nine")
    return elsewhere.token("admin:*", kid="nine")


def changed(issuer: Issuer) -> str:
    header, _, signature = issuer.token("read:one").split(".")
    return f"{header}.{issuer.token('admin:*').split('.')[1]}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        unsigned,
        signed_with_the_public_key,
        signed_by_a_stranger,
        by_an_unknown_key,
        changed,
        lambda _: "a.b.c",
        lambda _: "nonsense",
        lambda _: "{}",
    ],
)
async def test_what_the_issuer_has_not_signed_is_refused(issuer: Issuer, forge: Any) -> None:
    with pytest.raises(CredentialsInvalid):
        await admitted(issuer, forge(issuer))


async def test_a_new_key_in_the_file_is_taken_up_and_an_old_one_given_up(issuer: Issuer) -> None:
    source = jwks.FileKeys(issuer.path)
    issuer.rotate("two")
    source._watched.look()
    assert set(await source.keys("two")) == {"one", "two"}

    issuer.withdraw("one")
    source._watched.look()
    assert set(await source.keys("one")) == {"two"}


@contextmanager
def published(issuer: Issuer) -> Iterator[str]:
    """The issuer's keys at a URL that is answered from the file as it is at that moment."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = issuer.path.exists()
            self.send_response(200 if found else 503)
            self.end_headers()
            self.wfile.write(issuer.path.read_bytes() if found else b"")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/jwks"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_an_unknown_key_is_looked_for_at_the_issuer(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "LEAST_SECONDS_BETWEEN", 0.0)
    with published(issuer) as url:
        who = identity(url)
        await who.authenticate({"authorization": f"Bearer {issuer.token('read:*')}"})
        issuer.rotate("two")

        caller = await who.authenticate({"authorization": f"Bearer {issuer.token('read:x')}"})

        assert caller.may(READ, "x")
        await who.stop()


async def test_while_the_issuer_is_away_its_keys_of_before_are_good(issuer: Issuer) -> None:
    with published(issuer) as url:
        who = identity(url)
        token = issuer.token("read:*")
        await who.authenticate({"authorization": f"Bearer {token}"})
        issuer.path.unlink()

        assert (await who.authenticate({"authorization": f"Bearer {token}"})).name
        await who.stop()


async def test_an_issuer_that_was_never_there_is_not_the_callers_fault(issuer: Issuer) -> None:
    token = issuer.token("read:*")
    issuer.path.unlink()
    with published(issuer) as url:
        who = identity(url)
        with pytest.raises(IdentityUnavailable):
            await who.authenticate({"authorization": f"Bearer {token}"})
        await who.stop()


async def test_made_up_key_ids_do_not_ask_the_issuer_each_time(issuer: Issuer) -> None:
    with published(issuer) as url:
        source = jwks.IssuerKeys(url, 300.0)
        await source.keys("one")
        issuer.rotate("two")

        assert "two" not in await source.keys("two")
        await source.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwt_issuer", ""),
        ("jwt_audience", ""),
        ("jwt_algorithms", ()),
        ("jwt_algorithms", ("HS256",)),
        ("jwt_algorithms", ("ES256", "none")),
        ("jwt_jwks", "http://issuer.test/jwks"),
        ("jwt_jwks", "/there/is/no/such/file"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(
    issuer: Issuer, name: str, value: Any
) -> None:
    wrong: dict[str, Any] = {name: value}

    with pytest.raises(BadEnvironment, match=name):
        Identity.create(replace(settings(str(issuer.path)), **wrong))


def test_shared_secrets_among_the_keys_are_left_out() -> None:
    secret = {"kty": "oct", "k": "AAAA", "kid": "one"}

    with pytest.raises(BadEnvironment, match="no key for signatures"):
        jwks.parse_keys(json.dumps({"keys": [secret]}).encode())


async def test_an_api_key_is_not_taken_for_a_token(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated):
        await admitted(issuer, "trireme_0123456789ab_" + "x" * 43)
