"""What stands in a Triton model repository, read from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import BadEnvironment, ModelMismatch
from core.model_info import ModelInfo, model_info
from deploy.models.versions import parse_config

_REMEDY = "write it anew with `trireme models export`"


@dataclass(frozen=True, slots=True)
class RepositoryModel:
    """One version of a model; `exported` says whether its model.pt and tokenizer are there."""

    info: ModelInfo
    exported: bool

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def version(self) -> str:
        return self.info.version

    @property
    def fingerprint(self) -> str:
        return self.info.fingerprint


def list_models(repository: Path) -> list[RepositoryModel]:
    """Every version of every model of `repository`, by name and version.

    A model of which no version was exported yet is there as version 1. Raises BadEnvironment for
    an unusable config.pbtxt.
    """
    paths = sorted(repository.glob("*/config.pbtxt"))
    return [model for path in paths for model in read_versions(path.parent)]


def read_versions(directory: Path) -> list[RepositoryModel]:
    """The versions in the model's `directory`, oldest first; version 1 if none was exported yet."""
    path = directory / "config.pbtxt"
    config = parse_config(path)
    config.name = config.name or directory.name
    found = sorted(int(model.parent.name) for model in directory.glob("[1-9]*/model.pt"))
    exported = bool(found) and (directory / "tokenizer.json").exists()
    try:
        return [
            RepositoryModel(model_info(config, str(version)), exported) for version in found or [1]
        ]
    except ModelMismatch as error:
        raise BadEnvironment(error.message, field=str(path), remedy=_REMEDY) from error
