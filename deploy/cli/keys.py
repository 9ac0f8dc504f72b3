"""`trireme keys`: API keys in a file that gateways read; of a key only a hash is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from core.errors import TriremeError
from core.security.caller import Grant
from core.security.key_file import read_keys, write_keys
from core.security.keys import ApiKey, KeyRing, NewKey
from core.security.quotas import Limits
from deploy.cli.client import console, errors, readable_errors

_SHOWN = ("id", "expires", "name", "grants")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Span(click.ParamType[timedelta]):
    """A time such as 90d, 12h or 30m."""

    name = "time"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+)([dhm])", value)
        if found is None:
            self.fail(f"{value!r} is not a time such as 90d, 12h or 30m", parameter, context)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class GrantType(click.ParamType[Grant]):
    """A grant such as read:papers-*."""

    name = "grant"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Grant:
        try:
            return value if isinstance(value, Grant) else Grant.parse(value)
        except TriremeError as error:
            self.fail(str(error), parameter, context)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. Gateways take a changed file up within a second."""


def file_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--file`; default: TRIREME_KEYS_FILE, else keys.yaml."""
    return click.option(
        "--file",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="TRIREME_KEYS_FILE",
        default=Path("keys.yaml"),
        show_default=True,
        help="The file that the gateways' setting api_keys_file names.",
    )(function)


@keys.command()
@click.argument("name")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    type=GrantType(),
    metavar="SCOPE:PATTERN",
    help="read, write or admin, and a collection or pattern: read:papers-*. May be repeated. "
    "Default: the grants and limits of NAME's newest key.",
)
@click.option("--expires", type=Span(), help="After 90d, 12h or 30m. Default: never.")
@click.option("--requests-per-minute", type=click.FloatRange(min=0), help="0: no limit.")
@click.option("--model-tokens-per-minute", type=click.FloatRange(min=0), help="0: no limit.")
@click.option("--weight", type=click.FloatRange(min=0.01), help="Share under load; 1 is usual.")
@file_option
@readable_errors
def create(
    name: str, grants: tuple[Grant, ...], expires: timedelta | None, path: Path, **limits: Any
) -> None:
    """Make a key for NAME and print it, once.

    A second key of the same name is good beside the first: that is how keys are rotated.
    """
    ring = _ring(path)
    now = datetime.now(UTC)
    new = NewKey.make()
    entry = ApiKey(
        id=new.id,
        name=name,
        sha256=new.sha256,
        grants=grants,
        created=now,
        expires=None if expires is None else now + expires,
    )
    write_keys(path, [*ring.keys, _completed(entry, _newest(ring, name), **limits)])
    errors.print(f"key {new.id} of {name} is in {path}; this is the only time it is shown:")
    click.echo(new.text)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@file_option
@readable_errors
def list_(as_json: bool, path: Path) -> None:
    """Show whose keys there are and what they are good for; never the keys."""
    rows = [_row(key) for key in read_keys(path).keys]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in _SHOWN:
        table.add_column(heading, no_wrap=heading != "grants", overflow="fold")
    for row in rows:
        table.add_row(*(row[heading] for heading in _SHOWN))
    console.print(table)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--after", type=Span(), help="Good for so long yet: 1d, 12h, 30m. Default: no more.")
@file_option
@readable_errors
def revoke(key_id: str, after: timedelta | None, path: Path) -> None:
    """Take the key ID away, at once or after a time in which its holder can change over."""
    ring = read_keys(path)
    found = next((key for key in ring.keys if key.id == key_id), None)
    if found is None:
        raise click.ClickException(f"{path} has no key {key_id}; see `trireme keys list`")
    rest = [key for key in ring.keys if key.id != key_id]
    if after is not None:
        rest.append(replace(found, expires=datetime.now(UTC) + after))
    write_keys(path, rest)
    console.print(
        f"key {key_id} of {found.name} is good "
        + ("no more" if after is None else f"for {after} yet")
    )


def _ring(path: Path) -> KeyRing:
    return read_keys(path) if path.exists() else KeyRing(())


def _newest(ring: KeyRing, name: str) -> ApiKey | None:
    own = [key for key in ring.keys if key.name == name]
    return max(own, key=lambda key: key.created, default=None)


def _completed(
    entry: ApiKey,
    like: ApiKey | None,
    *,
    weight: float | None,
    requests_per_minute: float | None,
    model_tokens_per_minute: float | None,
) -> ApiKey:
    """The entry with what was not said as in another one; raises click.UsageError."""
    if not entry.grants and like is None:
        raise click.UsageError(f"{entry.name} has no key yet: give --grant, as in read:papers-*")
    usual = Limits() if like is None else like.limits
    limits = Limits(
        usual.requests_per_minute if requests_per_minute is None else requests_per_minute,
        usual.model_tokens_per_minute
        if model_tokens_per_minute is None
        else model_tokens_per_minute,
    )
    return replace(
        entry,
        grants=entry.grants or (like.grants if like is not None else ()),
        weight=weight or (like.weight if like is not None else 1.0),
        limits=limits,
    )


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "grants": " ".join(str(grant) for grant in key.grants),
        "requests_per_minute": key.limits.requests_per_minute,
        "model_tokens_per_minute": key.limits.model_tokens_per_minute,
        "created": f"{key.created:%Y-%m-%dT%H:%M:%SZ}",
        "expires": "never" if key.expires is None else f"{key.expires:%Y-%m-%dT%H:%M:%SZ}",
    }
