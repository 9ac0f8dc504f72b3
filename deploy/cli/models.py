"""`trireme models`: what Triton serves, and how it comes there."""

from __future__ import annotations

from pathlib import Path

import click
from google.protobuf import text_format
from rich.table import Table
from tritonclient.grpc import model_config_pb2

from core.triton import ModelInfo, model_info_of
from deploy.cli.client import console, readable_errors

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
    """Show the models of the repository and the versions that are exported."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("model", "kind", "dimension", "tokens", "fingerprint", "exported versions"):
        table.add_column(heading)
    for path in sorted(repository.glob("*/config.pbtxt")):
        info = _described(path)
        versions = sorted(found.parent.name for found in path.parent.glob("[1-9]*/model.pt"))
        table.add_row(
            info.name,
            info.kind,
            str(info.dimension),
            str(info.max_length),
            info.fingerprint[:12],
            ", ".join(versions) or "none: run `trireme models export`",
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
        console.print(model)


def _described(path: Path) -> ModelInfo:
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    return model_info_of(config, "")
