"""`trireme models`: what Triton serves, and how it comes there."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from deploy.cli.client import console, readable_errors
from deploy.models.repository import list_models

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"

repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY,
    help="Triton's model repository. Default: the project's.",
)


@click.group()
def models() -> None:
    """List and export models."""


@models.command("list")
@repository_option
@readable_errors
def list_(repository: Path) -> None:
    """Show the models of the repository and whether they are exported."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("model", "version", "kind", "dimension", "tokens", "fingerprint", ""):
        table.add_column(heading)
    for model in list_models(repository):
        table.add_row(
            model.name,
            model.version,
            model.kind,
            str(model.dimension),
            str(model.max_length),
            model.fingerprint[:12],
            "exported" if model.exported else "not exported: run `trireme models export`",
        )
    console.print(table)


@models.command("export")
@click.option("--only", multiple=True, help="Name of a model; may be given more than once.")
@repository_option
@readable_errors
def export(only: tuple[str, ...], repository: Path) -> None:
    """Write TorchScript, tokenizers and configurations into the repository."""
    # torch takes seconds to import, which no other command should pay.
    from deploy.models.export import export_all

    with console.status("exporting models"):
        exported = export_all(repository, only=only or None)
    for model in exported:
        console.print(str(model), highlight=False)
