"""`trireme keys` writes the file that gateways read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core.security.caller import READ
from core.security.key_file import read_keys
from core.security.quotas import Limits
from deploy.cli.access import Access
from deploy.cli.keys import keys


def now() -> datetime:
    return datetime.now(UTC)


def run(path: Path, *words: str) -> Result:
    found = CliRunner().invoke(keys, [*words, "--file", str(path)])
    assert found.exit_code == 0, found.output
    return found


def made(path: Path, *words: str) -> str:
    return run(path, "create", *words).stdout.strip()


def test_a_key_that_was_made_opens_what_it_was_made_for(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    text = made(path, "web", "--grant", "read:papers-*", "--requests-per-minute", "60")

    found = read_keys(path).find(text, now())

    assert found.name == "web"
    assert found.grants[0].allows(READ, "papers-1")
    assert found.limits == Limits(requests_per_minute=60)


def test_a_second_key_of_a_name_takes_its_grants_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    words = ("--grant", "write:a", "--model-tokens-per-minute", "5", "--weight", "3")
    first = made(path, "feed", *words)
    second = made(path, "feed", "--expires", "1d")

    ring = read_keys(path)
    old, new = ring.find(first, now()), ring.find(second, now())

    assert (new.grants, new.limits, new.weight) == (old.grants, old.limits, old.weight)
    assert old.expires is None
    assert new.expires is not None
    assert timedelta(hours=23) < new.expires - now() <= timedelta(days=1, minutes=1)


def test_a_key_is_revoked_at_once_or_after_a_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    made(path, "web", "--grant", "read:*")
    made(path, "web")
    first, second = (key.id for key in read_keys(path).keys)

    run(path, "revoke", first)
    run(path, "revoke", second, "--after", "2h")

    (left,) = read_keys(path).keys
    assert left.id == second
    assert left.expires is not None
    assert left.expires > now() + timedelta(hours=1)


def test_the_list_shows_whose_keys_there_are(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    text = made(path, "web", "--grant", "read:*", "--grant", "write:notes")

    (row,) = json.loads(run(path, "list", "--json").stdout)

    assert (row["name"], row["grants"]) == ("web", "read:* write:notes")
    assert text not in run(path, "list").output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "web"), "no key yet"),
        (("create", "web", "--grant", "own:x"), "SCOPE:PATTERN"),
        (("create", "web", "--grant", "read:x", "--expires", "soon"), "90d"),
        (("create", "not a name", "--grant", "read:x"), "name"),
        (("revoke", "0123456789ab"), "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    path = tmp_path / "keys.yaml"
    found = CliRunner().invoke(keys, [*words, "--file", str(path)])

    assert found.exit_code != 0
    assert says in found.output
    assert not path.exists()


def test_an_access_does_not_show_its_key() -> None:
    assert "hidden" not in repr(Access("localhost:1", api_key="hidden"))
