"""A judged collection on a cluster, ready to be searched: what `eval` and `tune` begin with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
import grpc

from core.errors import NotFound
from deploy.cli.beir import Judged
from deploy.cli.chosen_models import ChosenModels
from deploy.cli.client import connected
from deploy.cli.cluster import running_cluster
from deploy.cli.index import index_files
from deploy.cli.lines import read_documents
from deploy.cli.status import list_collections
from deploy.evaluation.runs import Searcher
from trireme.v1 import collection_pb2

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Ready:
    """A collection that can be searched, its documents and the legs that it has."""

    channel: grpc.Channel
    searcher: Searcher
    documents: int
    legs: tuple[str, ...]


def judged_options(function: Function) -> Function:
    """Adds FOLDER and what says which of its queries are used."""
    for option in (
        click.option("--max-queries", type=click.IntRange(1), help="Only the first so many."),
        click.option(
            "--collection",
            metavar="NAME",
            help="Search this collection. Default: one made of the folder's corpus.",
        ),
        click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False)),
    ):
        function = option(function)
    return function


def report_options(function: Function) -> Function:
    """Adds `--json` and `--html`, the files that a report is written to."""
    for name, said in (("html", "A page with plots, in one file."), ("json", "All figures.")):
        kind = click.Path(path_type=Path, dir_okay=False)
        function = click.option(f"--{name}", f"{name}_file", type=kind, help=said)(function)
    return function


@contextmanager
def ready(
    judged: Judged, models: ChosenModels, *, collection: str | None, address: str | None
) -> Iterator[Ready]:
    """Indexes the corpus unless it already is, or `collection` is named.

    Without a running cluster, one is started for the time of the block.
    """
    with running_cluster(address) as target, connected(target) as channel:
        found = _indexed(channel, judged, models) if collection is None else collection
        state = _state(channel, found)
        legs = (
            ("dense", "lexical", "sparse") if state.sparse_encoder.model else ("dense", "lexical")
        )
        yield Ready(channel, Searcher(channel, found), state.document_count, legs)


def command_line() -> str:
    """The command as it was given."""
    return shlex.join(["trireme", *sys.argv[1:]])


def now() -> str:
    """Date and time for a report, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _indexed(channel: grpc.Channel, judged: Judged, models: ChosenModels) -> str:
    """The collection that holds the whole corpus, one for each choice of models.

    Documents with neither title nor text, which some public collections hold, are left out.
    """
    parts = "eval", judged.name.lower()[:36], judged.digest, models.digest()
    collection = "-".join(filter(None, parts))
    corpus_size = sum(1 for _ in read_documents(judged.corpus, skip_empty=True))
    found = {c.name: c.document_count for c in list_collections(channel)}
    files = (judged.corpus,) if found.get(collection) != corpus_size else ()
    index_files(channel, collection, files, wait=True, models=models, skip_empty=True)
    return collection


def _state(channel: grpc.Channel, name: str) -> collection_pb2.Collection:
    for collection in list_collections(channel):
        if collection.name == name:
            return collection
    raise NotFound(
        "COLLECTION_NOT_FOUND",
        f"{name} is not there",
        field="--collection",
        remedy="index it first",
    )
