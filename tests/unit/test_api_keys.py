"""API keys: what is stored of them, who is let in, and how a changed file is taken up."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import (
    BadEnvironment,
    CredentialsExpired,
    CredentialsInvalid,
    CredentialsMissing,
    PermissionDenied,
    TriremeError,
)
from core.security.caller import ADMIN, READ, WRITE, Caller, Grant
from core.security.identity import Identity
from core.security.key_file import read_keys
from core.security.keys import KeyRing
from core.security.settings import SecuritySettings
from core.security.watched import Watched
from tests.fakes.credentials import Keys


def identity(path: Path) -> Identity:
    found = Identity.create(SecuritySettings(api_keys_file=path))
    assert found is not None
    return found


async def admitted(identity: Identity, credential: str) -> Caller:
    return await identity.authenticate({"authorization": f"Bearer {credential}"})


async def test_who_holds_a_key_is_known_by_its_name_and_grants(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    text = keys.add("web", "read:papers-*", "write:papers-1")

    caller = await admitted(identity(keys.path), text)

    assert caller.name == "web"
    assert caller.may(READ, "papers-2")
    assert caller.may(WRITE, "papers-1")
    assert not caller.may(WRITE, "papers-2")
    assert not caller.may(ADMIN, "papers-1")


def test_nothing_of_a_key_but_its_id_and_hash_is_stored(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    text = keys.add("web", "read:*")
    secret = text.rpartition("_")[2] if text.count("_") == 2 else text.split("_", 2)[2]

    assert secret not in keys.path.read_text()
    assert len(secret) == 43
    assert keys.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "x", str.upper])
async def test_a_key_that_is_not_quite_right_is_wrong(tmp_path: Path, change: object) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    text = keys.add("web", "read:*")
    assert callable(change)

    with pytest.raises(CredentialsInvalid):
        await admitted(identity(keys.path), change(text))


async def test_the_id_of_one_key_does_not_go_with_the_secret_of_another(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    first, second = keys.add("a", "read:*"), keys.add("b", "admin:*")
    mixed = "_".join([*second.split("_", 2)[:2], first.split("_", 2)[2]])

    with pytest.raises(CredentialsInvalid):
        await admitted(identity(keys.path), mixed)


@pytest.mark.parametrize("header", [{}, {"authorization": ""}, {"authorization": "Bearer"}])
async def test_without_a_credential_there_is_no_caller(
    tmp_path: Path, header: dict[str, str]
) -> None:
    keys = Keys(tmp_path / "keys.yaml")

    with pytest.raises(CredentialsMissing):
        await identity(keys.path).authenticate(header)


async def test_another_scheme_is_refused(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    text = keys.add("web", "read:*")

    with pytest.raises(CredentialsInvalid):
        await identity(keys.path).authenticate({"authorization": f"Basic {text}"})


async def test_a_key_is_good_until_it_expires(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    text = keys.add("web", "read:*", expires=now + timedelta(hours=1))
    ring = read_keys(keys.path)

    assert ring.find(text, now).name == "web"
    with pytest.raises(CredentialsExpired, match="13:00:00"):
        ring.find(text, now + timedelta(hours=1))


async def test_a_changed_file_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    old = keys.add("web", "read:*")
    watched = Watched([keys.path], lambda: read_keys(keys.path), "")
    who = Identity(watched, None)
    new = keys.add("web", "read:*")

    watched.look()
    assert (await admitted(who, old)) == (await admitted(who, new))

    keys.remove(old)
    watched.look()
    with pytest.raises(CredentialsInvalid):
        await admitted(who, old)
    assert (await admitted(who, new)).name == "web"


async def test_a_file_that_has_become_unreadable_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    text = keys.add("web", "read:*")
    watched = Watched([keys.path], lambda: read_keys(keys.path), "")

    keys.path.write_text("keys: [{id: 1}]")
    with caplog.at_level(logging.ERROR):
        watched.look()
        watched.look()
    assert (await admitted(Identity(watched, None), text)).name == "web"
    assert [record.getMessage() for record in caplog.records] == ["changed files refused"]

    keys.path.unlink()
    watched.look()
    assert (await admitted(Identity(watched, None), text)).name == "web"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("", "no list"),
        ("keys: {}", "no list"),
        ("keys: [x]", r"keys\[0\]"),
        ("keys: [{id: 0123456789ab, name: a, sha256: abc, grants: []}]", "sha256"),
        ("keys: [{id: zz, name: a}]", r"keys\[0\]\.id"),
        ("keys: [{id: 0123456789ab, secret: x}]", r"keys\[0\]"),
        ("keys: [", "not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, content: str, names: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(content)

    with pytest.raises(BadEnvironment, match=names):
        read_keys(path)


@pytest.mark.parametrize("grant", ["read", "read:", "own:x", "read:a b", "read:A", "read:*:x"])
def test_a_grant_that_says_nothing_is_refused(tmp_path: Path, grant: str) -> None:
    with pytest.raises(TriremeError, match="SCOPE:PATTERN"):
        Grant.parse(grant)


def test_a_missing_file_keeps_a_gateway_from_starting(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match=r"gone\.yaml"):
        Identity.create(SecuritySettings(api_keys_file=tmp_path / "gone.yaml"))


def test_without_keys_and_tokens_there_is_nobody_to_ask() -> None:
    assert Identity.create(SecuritySettings()) is None


def test_a_right_holds_for_all_indexes_of_a_collection() -> None:
    caller = Caller("a", (Grant(READ, "papers"),))

    assert caller.may(READ, "papers~2")
    assert not caller.may(READ, "papers-2")


def test_admin_includes_the_other_scopes_and_these_not_each_other() -> None:
    admin, writer = Caller("a", (Grant(ADMIN, "x"),)), Caller("b", (Grant(WRITE, "x"),))

    assert all(admin.may(scope, "x") for scope in (READ, WRITE, ADMIN))
    assert [writer.may(scope, "x") for scope in (READ, WRITE, ADMIN)] == [False, True, False]


def test_a_refusal_does_not_tell_whether_there_is_such_a_collection() -> None:
    with pytest.raises(PermissionDenied) as refused:
        Caller("a", (Grant(READ, "x"),)).require(READ, ["x", "y"])

    assert str(refused.value) == (
        "these credentials do not hold 'read' for collection 'y'; ask for a key or token that does"
    )


def test_an_unknown_id_takes_the_same_comparison() -> None:
    with pytest.raises(CredentialsInvalid, match="not known"):
        KeyRing(()).find("trireme_0123456789ab_" + "x" * 43, datetime.now(UTC))
