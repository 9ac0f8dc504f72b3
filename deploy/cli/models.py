"""`trireme models`: what Triton serves, and how it comes there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table

from core.deadline import Deadline
from core.errors import ModelInUse, TriremeError
from deploy.cli.client import DEFAULT_STATE, address_option, connected, console, readable_errors
from deploy.cli.later import LaterGroup
from deploy.cli.status import list_collections
from deploy.local.control import Served, TritonControl
from deploy.local.state import triton_address_file
from deploy.models.repository import RepositoryModel, list_models
from trireme.v1 import collection_pb2

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
# Loading starts a process that imports PyTorch for each instance of each version.
LOAD_SECONDS = 300.0
LIST_SECONDS = 10.0

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY,
    help="Triton's model repository. Default: the project's.",
)


def triton_options(function: Function) -> Function:
    """Adds `--triton` and `--state`."""
    state = click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_STATE,
        help="State directory of the cluster whose Triton is meant. Default: .trireme",
    )
    address = click.option(
        "--triton", metavar="HOST:PORT", help="Triton's gRPC port. Default: the cluster's."
    )
    return state(address(function))


@click.group(cls=LaterGroup, later={"batching": "deploy.cli.batching:batching"})
def models() -> None:
    """List, export, load, unload and verify models."""


@models.command("list")
@repository_option
@triton_options
@readable_errors
def list_(repository: Path, triton: str | None, state: Path) -> None:
    """Show every version in the repository and whether Triton serves it."""
    served = _served(triton, state)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("model", "version", "kind", "dimension", "tokens", "precision", "made of"):
        table.add_column(heading)
    table.add_column("state")
    for model in list_models(repository):
        key = (model.name, model.version)
        table.add_row(
            *key,
            model.info.kind,
            str(model.info.dimension),
            str(model.info.max_length),
            model.info.precision,
            f"{model.info.model_name} {model.fingerprint[:12]}",
            _state(model, None if served is None else served.pop(key, None), served is not None),
        )
    for (name, version), found in (served or {}).items():
        if version:
            blank = ("",) * 5
            table.add_row(name, version, *blank, f"{_words(found)}, not in the repository")
    console.print(table)
    if served is None:
        console.print("[dim]no Triton answers; what it serves is not shown[/]")


@models.command("load")
@click.argument("name")
@triton_options
@readable_errors
def load(name: str, triton: str | None, state: Path) -> None:
    """Let Triton serve NAME as it lies in the repository, with all its versions.

    Versions that it serves already answer all the while.
    """
    versions = _control(
        triton, state, lambda control: control.load(name, Deadline.after(LOAD_SECONDS))
    )
    console.print(f"{name}: ready in {_versions(versions)}", highlight=False)


@models.command("unload")
@click.argument("name")
@click.option("--version", default="", help="Only this one. Default: all versions.")
@click.option("--force", is_flag=True, help="Also if a collection needs it.")
@address_option
@triton_options
@readable_errors
def unload(
    name: str, version: str, force: bool, address: str | None, triton: str | None, state: Path
) -> None:
    """Stop serving NAME, until it is loaded or Triton starts again.

    Refused if a collection was built with it: its searches would lose their dense leg.
    """
    if not force:
        with connected(address) as channel:
            check_unused(list_collections(channel), name, version)

    async def act(control: TritonControl) -> Sequence[str]:
        deadline = Deadline.after(LOAD_SECONDS)
        if version:
            return await control.unload_version(name, version, deadline)
        await control.unload(name, deadline)
        return []

    remaining = _control(triton, state, act)
    rest = f", still ready in {_versions(remaining)}" if remaining else ""
    console.print(f"{name}{':' * bool(version)}{version} unloaded{rest}", highlight=False)


@models.command("verify")
@click.argument("name")
@click.option("--version", default="", help="Default: the newest that is served.")
@click.option(
    "--against",
    default="",
    help="Directory or hub id that the library loads for comparison. Default: the traced model.",
)
@repository_option
@triton_options
@readable_errors
def verify(
    name: str, version: str, against: str, repository: Path, triton: str | None, state: Path
) -> None:
    """Compare what Triton answers over reference texts with the same model in this process."""
    # torch takes seconds to import, which no other command should pay.
    from deploy.models.verify import verify_model

    target = _triton_address(triton, state)
    with console.status("comparing"):
        report = asyncio.run(verify_model(target, repository, name, version, against))
    console.print(str(report), highlight=False)
    if not report.good:
        raise click.ClickException(f"{name} answers otherwise than the model in this process")


@models.command("export")
@click.argument("source", default="")
@click.option("--name", default="", help="Name in the repository; needed with SOURCE.")
@click.option("--version", default="", help="Version number. Default: the next free one.")
@click.option(
    "--precision",
    type=click.Choice(("fp32", "fp16", "bf16", "int8")),
    default=None,
    help="fp16 and bf16 are for GPUs, int8 for CPUs. Default: fp32.",
)
@click.option("--only", multiple=True, help="One of the shipped models; may be given repeatedly.")
@repository_option
@readable_errors
def export(
    source: str,
    name: str,
    version: str,
    precision: str | None,
    only: tuple[str, ...],
    repository: Path,
) -> None:
    """Write TorchScript, tokenizers and configurations into the repository.

    SOURCE is a directory that sentence-transformers saved, or a hub id; without it the shipped
    models are written.
    """
    if bool(source) != bool(name) or (source and only) or (version and not source):
        raise click.UsageError("give SOURCE with --name (and --version), or neither; then --only")
    # torch takes seconds to import, which no other command should pay.
    from deploy.models.export import export_all, export_directory

    with console.status("exporting models"):
        if source:
            exported = [
                export_directory(
                    repository, source, name=name, version=version, precision=precision or "fp32"
                )
            ]
        else:
            exported = export_all(repository, only=only or None, precision=precision or "")
    for model in exported:
        console.print(str(model), highlight=False)


def check_unused(collections: Sequence[collection_pb2.Collection], name: str, version: str) -> None:
    """Raises ModelInUse if a collection was built with the model, in that version unless "".

    While a migration is under way, both of the collection's indexes count.
    """
    users = {
        collection.name
        for collection in collections
        for index in (collection, collection.other_index)
        for encoder in (index.encoder, index.sparse_encoder)
        if encoder.model == name and version in ("", encoder.version)
    }
    if users:
        raise ModelInUse(
            f"is what {', '.join(sorted(users))} was built with",
            field=f"{name}:{version}" if version else name,
            remedy="delete or rebuild the collection first, or give --force",
        )


def _state(model: RepositoryModel, served: Served | None, asked: bool) -> str:
    if not model.exported:
        return "not exported: run `trireme models export`"
    if not asked:
        return "exported"
    return _words(served) if served and served.state else "exported, not loaded"


def _words(served: Served) -> str:
    """`ready`, or `unavailable: why` in one line."""
    reason = (served.reason.splitlines() or [""])[0]
    return served.state.lower() + (f": {reason}" if reason else "")


def _versions(versions: Sequence[str]) -> str:
    return ("version " if len(versions) == 1 else "versions ") + ", ".join(versions)


def _served(triton: str | None, state: Path) -> dict[tuple[str, str], Served] | None:
    """What Triton serves, by name and version; None if no Triton answers and none was named."""
    try:
        found = _control(triton, state, lambda control: control.index(Deadline.after(LIST_SECONDS)))
    except (TriremeError, click.UsageError):
        if triton:
            raise
        return None
    return {(each.name, each.version): each for each in found}


def _control(
    triton: str | None, state: Path, act: Callable[[TritonControl], Awaitable[Result]]
) -> Result:
    address = _triton_address(triton, state)

    async def run() -> Result:
        control = TritonControl.create(address)
        try:
            return await act(control)
        finally:
            await control.stop()

    return asyncio.run(run())


def _triton_address(triton: str | None, state: Path) -> str:
    """As given, or as written by `trireme up`; else click.UsageError."""
    if triton:
        return triton
    path = triton_address_file(state)
    try:
        return path.read_text().strip()
    except OSError:
        raise click.UsageError(
            f"no --triton was given and there is no {path}; start a cluster with `trireme up`, or "
            "say where a Triton is"
        ) from None
