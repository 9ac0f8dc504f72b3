"""Kubernetes' own schemas, strict, from kubernetes_validate, which would read them every time."""

from __future__ import annotations

import functools
import re
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, schema_contents
from referencing import Registry, Resource

Object = dict[str, Any]


def problems(thing: Object, minor: str) -> list[str]:
    """What the API server of `minor` ("1.33") would not take.

    Raises FileNotFoundError for a kind that it does not know.
    """
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", thing["apiVersion"])
    validator = _validator(_folder(minor), f"{thing['kind'].lower()}-{group}.json")
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(thing)]


@functools.cache
def _folder(minor: str) -> str:
    version = next(each for each in all_versions() if each.startswith(f"{minor}."))
    return f"kubernetes-json-schema/v{version}-local-strict"


@functools.cache
def _registry(folder: str) -> Registry[Any]:
    definitions = Resource.from_contents(schema_contents(f"{folder}/_definitions.json", ""))
    return definitions @ Registry()


@functools.cache
def _validator(folder: str, name: str) -> Draft202012Validator:
    schema = Resource.from_contents(schema_contents(f"{folder}/{name}", ""))
    return Draft202012Validator(schema.contents, registry=schema @ _registry(folder))
