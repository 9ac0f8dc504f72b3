"""What stands in a Triton model repository, read from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from core.errors import BadEnvironment

_REMEDY = "write it anew with `trireme models export`"


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """One version of a model; `exported` says whether its model.pt and tokenizer are there."""

    name: str
    version: str
    kind: str
    dimension: int
    max_length: int
    fingerprint: str
    exported: bool


def list_models(repository: Path) -> list[RepositoryModel]:
    """Every model of `repository` by name; raises BadEnvironment for an unusable config.pbtxt."""
    paths = sorted(repository.glob("*/config.pbtxt"))
    return [read_model(path.parent) for path in paths]


def read_model(directory: Path) -> RepositoryModel:
    """The newest version in the model's `directory`, or version 1 if none was exported yet."""
    path = directory / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        versions = [int(model.parent.name) for model in directory.glob("[1-9]*/model.pt")]
        return RepositoryModel(
            name=config.name or directory.name,
            version=str(max(versions, default=1)),
            kind=parameters["kind"],
            dimension=int(parameters["dimension"]),
            max_length=int(parameters["max_length"]),
            fingerprint=parameters["fingerprint"],
            exported=bool(versions) and (directory / "tokenizer.json").exists(),
        )
    except OSError as error:
        raise BadEnvironment(f"cannot be read: {error.strerror}", field=str(path)) from error
    except text_format.ParseError as error:
        raise BadEnvironment(f"is no Triton config: {error}", field=str(path)) from error
    except (KeyError, ValueError) as error:
        raise BadEnvironment(
            f"lacks a usable parameter: {error}", field=str(path), remedy=_REMEDY
        ) from error
