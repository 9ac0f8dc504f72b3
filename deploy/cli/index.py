"""`trireme index`: JSON-lines files into a collection, and what else is done to indexes."""

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
from deploy.cli.index_files import export, gc, verify_index
from deploy.cli.index_tasks import compact, rebuild
from deploy.cli.upload import DEFAULT_MODELS, ensure_collection, upload, wait_until_indexed

_IMPORT = "Store and index documents that `trireme index export` wrote, or other JSON lines."

# No collection can be called like this.
_DOCUMENTS = "COLLECTION"


class IndexGroup(click.Group):
    """A group whose first word, unless it is a command, is a collection that files go into."""

    def completed(self, words: list[str]) -> list[str]:
        """The words with the command that they leave out."""
        if not words or words[0] in self.commands or words[0] in ("-h", "--help"):
            return words
        return [_DOCUMENTS, *words]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.completed(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return None if name == _DOCUMENTS else name, command, rest


@click.group(
    cls=IndexGroup, subcommand_metavar="COLLECTION FILE... | -- COLLECTION FILE... | COMMAND ..."
)
def index() -> None:
    """Store and index documents from FILEs, or do something to the index of a collection.

    `trireme index COLLECTION --help` shows the options for files. A collection that is called like
    a command is named after `--`.
    """


@index.command(_DOCUMENTS, hidden=True)
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
def documents(
    collection: str,
    files: tuple[Path, ...],
    wait: bool,
    encoder: str,
    sparse_encoder: str,
    dimensions: int,
    language: str,
    title_boost: int,
    address: str | None,
) -> None:
    """Store and index documents from JSON-lines files, plain or .gz.

    Keys: _id or id, title, text; all others become attributes. The collection is created if need
    be, with the models that are named; `trireme models list` shows them. Interrupted, the same
    command goes on where it was.
    """
    models = ChosenModels(encoder, sparse_encoder, dimensions, language, title_boost)
    with connected(address) as channel:
        stored = index_files(channel, collection, files, wait=wait, models=models)
    console.print(f"{stored:,} documents stored in [bold]{collection}[/]")


for _command in (rebuild, compact, verify_index, gc, export):
    index.add_command(_command)


index.add_command(
    click.Command("import", params=documents.params, callback=documents.callback, help=_IMPORT)
)


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
                speed = f", {bars.tasks[-1].speed or 0:,.0f}/s"
                unit = f"{indexed:,} of {accepted:,} changes{speed}"
                bars.update(indexing, completed=indexed, total=accepted, unit=unit)

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
