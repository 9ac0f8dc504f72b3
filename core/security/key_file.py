"""The file of API keys: YAML (JSON is YAML too), one entry per key, no key in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from core.errors import BadEnvironment, InvalidInput
from core.fsops import replace_file
from core.security.caller import Grant
from core.security.keys import ApiKey, KeyRing
from core.security.quotas import Limits
from core.security.watched import read_file

_SETTING = "api_keys_file"
_FORMS = {
    "id": re.compile(r"[0-9a-f]{12}"),
    "name": re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
}
_NUMBERS = ("weight", "requests_per_minute", "model_tokens_per_minute")
_KNOWN = {*_FORMS, *_NUMBERS, "grants", "created", "expires"}
# The C loader reads a thousand keys in a tenth of the time; without it the other one will do.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_keys(path: Path) -> KeyRing:
    """The keys in a file; raises BadEnvironment naming the entry and field at fault."""
    try:
        content = yaml.load(read_file(path, _SETTING), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError):
        # A parser quotes what it stumbles over; nothing of this file may get into a log.
        raise _bad(path, "is not YAML") from None
    entries = content.get("keys") if isinstance(content, Mapping) else None
    if not isinstance(entries, list):
        raise _bad(path, "has no list `keys`")
    keys = [_key(entry, path, f"keys[{number}]") for number, entry in enumerate(entries)]
    ids = [key.id for key in keys]
    if len(set(ids)) < len(ids):
        raise _bad(path, "has two keys of one id")
    return KeyRing(keys)


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replaces the file in one step; only its owner may read it.

    Raises BadEnvironment if `read_keys` would not take it.
    """
    entries = [_entry(key) for key in keys]
    for number, entry in enumerate(entries):
        _key(entry, path, f"keys[{number}]")
    content = yaml.safe_dump({"keys": entries}, sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.encode())
    path.chmod(0o600)


def _key(entry: Any, path: Path, where: str) -> ApiKey:
    if not isinstance(entry, Mapping) or not set(entry) <= _KNOWN:
        raise _bad(path, f"{where}: is not a mapping of {', '.join(sorted(_KNOWN))}")
    texts = {}
    for name, form in _FORMS.items():
        texts[name] = str(entry.get(name, ""))
        if not form.fullmatch(texts[name]):
            raise _bad(path, f"{where}.{name}: is missing or not of the form {form.pattern}")
    numbers = {name: _number(entry.get(name), path, f"{where}.{name}") for name in _NUMBERS}
    return ApiKey(
        **texts,
        grants=_grants(entry.get("grants"), path, f"{where}.grants"),
        created=_moment(entry.get("created"), path, f"{where}.created") or datetime.now(UTC),
        expires=_moment(entry.get("expires"), path, f"{where}.expires"),
        weight=numbers.pop("weight") or 1.0,
        limits=Limits(**numbers),
    )


def _grants(value: Any, path: Path, where: str) -> tuple[Grant, ...]:
    if not isinstance(value, list):
        raise _bad(path, f"{where}: is not a list such as [read:papers-*]")
    try:
        return tuple(Grant.parse(str(each), where) for each in value)
    except InvalidInput as error:
        raise _bad(path, str(error)) from error


def _number(value: Any, path: Path, where: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _bad(path, f"{where}: is not a number of 0 or more")
    return float(value)


def _moment(value: Any, path: Path, where: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise _bad(path, f"{where}: is not a time such as 2027-01-31T00:00:00Z") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _entry(key: ApiKey) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": key.id,
        "name": key.name,
        "sha256": key.sha256,
        "grants": [str(grant) for grant in key.grants],
        "created": f"{key.created:%Y-%m-%dT%H:%M:%SZ}",
    }
    if key.expires is not None:
        entry["expires"] = f"{key.expires:%Y-%m-%dT%H:%M:%SZ}"
    if key.weight != 1.0:
        entry["weight"] = key.weight
    for name in ("requests_per_minute", "model_tokens_per_minute"):
        if value := getattr(key.limits, name):
            entry[name] = value
    return entry


def _bad(path: Path, what: str) -> BadEnvironment:
    return BadEnvironment(
        f"{path}: {what}", field=_SETTING, remedy="make its entries by `trireme keys`"
    )
