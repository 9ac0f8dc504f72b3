"""`trireme index`: JSON-lines files into a collection."""

from __future__ import annotations

from pathlib import Path

import click
import grpc
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from deploy.cli.chosen_models import ChosenModels, model_options
from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.upload import DEFAULT_MODELS, ensure_collection, upload, wait_until_indexed


@click.command()
@click.argument("collection")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option("--wait/--no-wait", default=True, help="Wait until everything can be searched.")
@model_options
@address_option
@readable_errors
def index(
    collection: str,
    files: tuple[Path, ...],
    wait: bool,
    encoder: str,
    sparse_encoder: str,
    dimensions: int,
    address: str | None,
) -> None:
    """Store and index documents from JSON-lines files, plain or .gz.

    Keys: _id or id, title, text; all others become attributes. The collection is created if need
    be, with the models that are named; `trireme models list` shows them. Interrupted, the same
    command goes on where it was.
    """
    models = ChosenModels(encoder, sparse_encoder, dimensions)
    with connected(address) as channel:
        stored = index_files(channel, collection, files, wait=wait, models=models)
    console.print(f"{stored:,} documents stored in [bold]{collection}[/]")


def index_files(
    channel: grpc.Channel,
    collection: str,
    files: tuple[Path, ...],
    *,
    wait: bool,
    models: ChosenModels = DEFAULT_MODELS,
    skip_empty: bool = False,
) -> int:
    """Uploads files with a progress bar, waits for indexing if asked; returns the documents."""
    stored = 0
    with _bars() as bars:
        target = ensure_collection(channel, collection, models)
        for path in files:
            storing = bars.add_task(f"store {path.name}", total=path.stat().st_size, unit="")

            def on_batch(documents: int, bytes_read: int, task: object = storing) -> None:
                nonlocal stored
                stored += documents
                bars.update(task, completed=bytes_read, unit=f"{stored:,} documents")  # type: ignore[arg-type]

            upload(channel, target, path, on_batch, skip_empty=skip_empty)
            bars.update(storing, completed=path.stat().st_size)
        if wait:
            indexing = bars.add_task("embed and index", total=None, unit="")

            def on_progress(indexed: int, accepted: int) -> None:
                bars.update(
                    indexing, completed=indexed, total=accepted, unit=f"{indexed:,} changes"
                )

            wait_until_indexed(channel, collection, on_progress)
    return stored


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:24}"),
        BarColumn(bar_width=40),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[unit]}"),
        console=console,
    )
