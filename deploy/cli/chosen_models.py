"""The models of a new collection and its words, as said on the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from core.errors import ModelMismatch
from core.languages import MAX_TITLE_BOOST, language_of
from trireme.v1 import collection_pb2, lexical_pb2

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ChosenModels:
    """Models as NAME or NAME:VERSION; empty and 0 leave the choice to the indexer.

    `language` and `title_boost` are those of LexicalSettings.
    """

    encoder: str = ""
    sparse_encoder: str = ""
    dimensions: int = 0
    language: str = ""
    title_boost: int = 0

    def collection(self, name: str) -> collection_pb2.Collection:
        """What to create."""
        return collection_pb2.Collection(
            name=name,
            encoder=model_of(self.encoder),
            sparse_encoder=model_of(self.sparse_encoder),
            dimensions=self.dimensions,
            lexical=lexical_pb2.LexicalSettings(
                language=self.language, title_boost=self.title_boost
            ),
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
        if self.language and language_of(self.language, "--language") != found.lexical.language:
            differences.append(f"--language {found.lexical.language}")
        if self.title_boost not in (0, found.lexical.title_boost):
            differences.append(f"--title-boost {found.lexical.title_boost}")
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
            "--title-boost",
            type=click.IntRange(0, MAX_TITLE_BOOST),
            default=0,
            help="Times that words of the title count more than those of the text.",
        ),
        click.option(
            "--language",
            metavar="CODE",
            default="",
            help="Language of the texts, as `de`; `cjk`; or `none` for any. Default: en.",
        ),
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


def model_of(text: str) -> collection_pb2.ModelVersion | None:
    """A model as NAME or NAME:VERSION; None for an empty text."""
    name, _, version = text.partition(":")
    return collection_pb2.ModelVersion(model=name, version=version) if text else None


def _shown(model: collection_pb2.ModelVersion) -> str:
    return f"{model.model}:{model.version}" if model.model else "(none)"


def _fits(found: collection_pb2.ModelVersion, wanted: collection_pb2.ModelVersion) -> bool:
    return found.model == wanted.model and wanted.version in ("", found.version)
