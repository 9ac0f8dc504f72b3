"""The models of a new collection, as said on the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from core.errors import ModelMismatch
from trireme.v1 import collection_pb2

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ChosenModels:
    """Models as NAME or NAME:VERSION; empty and 0 leave the choice to the indexer."""

    encoder: str = ""
    sparse_encoder: str = ""
    dimensions: int = 0

    def collection(self, name: str) -> collection_pb2.Collection:
        """What to create."""
        return collection_pb2.Collection(
            name=name,
            encoder=_model(self.encoder),
            sparse_encoder=_model(self.sparse_encoder),
            dimensions=self.dimensions,
        )

    def check(self, found: collection_pb2.Collection) -> None:
        """Raises ModelMismatch if a collection that is there already was made otherwise."""
        wanted = self.collection(found.name)
        differences = [
            f"{option} {_shown(model)}"
            for option, chosen, model, own in (
                ("--encoder", self.encoder, found.encoder, wanted.encoder),
                (
                    "--sparse-encoder",
                    self.sparse_encoder,
                    found.sparse_encoder,
                    wanted.sparse_encoder,
                ),
            )
            if chosen and not _fits(model, own)
        ]
        if self.dimensions not in (0, found.dimensions):
            differences.append(f"--dimensions {found.dimensions}")
        if differences:
            raise ModelMismatch(
                f"was made with {', '.join(differences)}",
                field=found.name,
                remedy="leave the options out, or name another collection",
            )

    def digest(self) -> str:
        """Eight characters that tell one choice from another; empty if there is none."""
        if self == ChosenModels():
            return ""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


def model_options(function: Function) -> Function:
    """Adds the options that `ChosenModels` is made of."""
    for option in (
        click.option(
            "--dimensions",
            type=click.IntRange(0),
            default=0,
            help="Components of each vector to keep (Matryoshka). Default: all.",
        ),
        click.option(
            "--sparse-encoder",
            metavar="NAME[:VERSION]",
            default="",
            help="Sparse encoder of a new collection. Default: no learned-sparse leg.",
        ),
        click.option(
            "--encoder",
            metavar="NAME[:VERSION]",
            default="",
            help="Encoder of a new collection. Default: the indexer's.",
        ),
    ):
        function = option(function)
    return function


def _model(text: str) -> collection_pb2.ModelVersion | None:
    name, _, version = text.partition(":")
    return collection_pb2.ModelVersion(model=name, version=version) if text else None


def _shown(model: collection_pb2.ModelVersion) -> str:
    return f"{model.model}:{model.version}" if model.model else "(none)"


def _fits(found: collection_pb2.ModelVersion, wanted: collection_pb2.ModelVersion) -> bool:
    return found.model == wanted.model and wanted.version in ("", found.version)
