"""Loads one frozen dataclass per role from YAML; unknown keys are refused."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from core.errors import BadEnvironment

Config = TypeVar("Config")


def load(kind: type[Config], path: Path, section: str) -> Config:
    """Reads the mapping under `section` of a YAML file into the frozen dataclass `kind`.

    Raises BadEnvironment naming the file and key if it cannot be read, a key is unknown or missing,
    or a value has the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadEnvironment(f"cannot be read: {error}", field=str(path)) from error
    values = content.get(section) if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping):
        raise BadEnvironment(f"has no section {section!r}", field=str(path))
    return build(kind, values, f"{path}: {section}")


def build(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Builds the dataclass `kind` from plain values; raises BadEnvironment naming the key."""
    known, hints = _described(kind)  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise BadEnvironment(
                "is not a setting", field=f"{where}.{key}", remedy=f"known: {', '.join(known)}"
            )
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in values:
            raise BadEnvironment("is missing", field=f"{where}.{name}", remedy="set it")
    converted = {
        key: _convert(value, hints[key], f"{where}.{key}") for key, value in values.items()
    }
    return kind(**converted)


@cache
def _described(kind: type[Any]) -> tuple[Mapping[str, Field[Any]], Mapping[str, Any]]:
    """The fields of a dataclass and their types: finding these out takes longer than the rest."""
    return {field.name: field for field in fields(kind)}, typing.get_type_hints(kind)


def _convert(value: Any, hint: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build(hint, value, where)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        arguments = typing.get_args(hint)
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(item, typing.get_args(hint)[0], where) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise BadEnvironment(
        f"{value!r} is a {type(value).__name__}", field=where, remedy=f"give a {wanted}"
    )
