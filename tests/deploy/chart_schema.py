"""Lets the chart's schema know every setting of every role, so that Helm refuses any other.

python -m tests.deploy.chart_schema --write
python -m tests.deploy.chart_schema --check
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from gateway.config import GatewayConfig
from indexer.config import IndexerConfig
from shard.config import ShardConfig

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "deploy" / "chart" / "trireme" / "values.schema.json"
ROLES: dict[str, Any] = {"gateway": GatewayConfig, "shard": ShardConfig, "indexer": IndexerConfig}
_EVERYWHERE = {
    "address",
    "address_file",
    "health_address",
    "metrics_address",
    "tls_ca_file",
    "tls_certificate_file",
    "tls_client_ca_file",
    "tls_key_file",
}
_INDEX = {"index_directory", "index_endpoint", "index_region", "index_url"}
_MODELS = {"model_directory", "triton_address"}
# What the chart itself sets, from values of other names.
OWN = {
    "gateway": _EVERYWHERE
    | _MODELS
    | {
        "api_keys_file",
        "console",
        "http_address",
        "indexer_address",
        "page_token_key_file",
        "shards",
    },
    "shard": _EVERYWHERE | _INDEX | {"shard"},
    "indexer": _EVERYWHERE
    | _INDEX
    | _MODELS
    | {"database_url", "shard_count", "snapshot_location"},
}
_TYPES: dict[Any, str] = {
    str: "string",
    Path: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}


def settings(role: str) -> dict[str, Any]:
    """The schema of `<role>.config`: every setting that the chart does not make itself."""
    hints = typing.get_type_hints(ROLES[role])
    names = {field.name for field in dataclasses.fields(ROLES[role])} - OWN[role]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _schema(hints[name]) for name in sorted(names)},
    }


def expected() -> dict[str, Any]:
    """The committed schema, with the settings of today."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    for role in ROLES:
        schema["$defs"][f"{role}Config"] = settings(role)
    return schema


def _schema(hint: Any) -> dict[str, Any]:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(each) for each in arguments]}
    if hint is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if dataclasses.is_dataclass(hint) or origin is not None:
        return {"type": "object"}
    return {"type": _TYPES[hint]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true")
    choice.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        SCHEMA.write_text(json.dumps(expected(), indent=2) + "\n")
    return 0 if expected() == json.loads(SCHEMA.read_text()) else 1


if __name__ == "__main__":
    sys.exit(main())
