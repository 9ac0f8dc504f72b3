"""`trireme index verify|gc|export|import`: the files of an index, and documents as files."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import grpc
from rich.table import Table

from core.errors import CorruptFile
from core.wire import attributes_to_json, document_from_proto
from deploy.cli.client import DEFAULT_STATE, address_option, connected, console, readable_errors
from deploy.cli.status import list_collections
from trireme.v1 import collection_pb2, document_pb2, document_pb2_grpc

# What reads an index takes long to import, which commands that only ask a gateway should not pay.
if TYPE_CHECKING:
    from core.index_store import IndexStore
    from core.index_store.verification import Verified

SECONDS = 30.0
PAGE = 200

_HOUR_SECONDS = 3600.0


def _index_options(command: Any) -> Any:
    """Adds `--index` and `--index-endpoint`."""
    place = click.option(
        "--index",
        "where",
        metavar="DIRECTORY|s3://BUCKET/PREFIX",
        default=str(DEFAULT_STATE / "index"),
        show_default=True,
        envvar="TRIREME_INDEX_URL",
        help="Where the index is published.",
    )
    endpoint = click.option(
        "--index-endpoint", default="", help="Service of the bucket; default: AWS_ENDPOINT_URL."
    )
    return place(endpoint(command))


def _store(where: str, endpoint: str) -> IndexStore:
    """The store there; copies of a bucket's files are kept apart from those of roles that run."""
    from core.index_store import IndexStore, Location

    if "://" not in where:
        return IndexStore(Location(Path(where)).engine())
    return IndexStore(Location(DEFAULT_STATE / "cli", where, endpoint).engine())


@click.command("verify")
@click.argument("collections", nargs=-1, metavar="[COLLECTION...]")
@_index_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def verify_index(
    collections: tuple[str, ...],
    where: str,
    index_endpoint: str,
    as_json: bool,
    address: str | None,
) -> None:
    """Read every published file anew and check it: size, checksum, counts, generation.

    Works on a running cluster, and without one; with one, what is published is also compared with
    what was committed. Exits with 1 if anything is damaged: `trireme index rebuild` repairs it.
    """
    from core.index_store.verification import verify

    store = _store(where, index_endpoint)
    known = _known(address)
    committed = None if known is None else _committed(store, known)
    report = verify(store, collections, committed)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report, compared=committed is not None)
    if not report.is_sound:
        raise SystemExit(1)


@click.command()
@_index_options
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Generations.")
@click.option(
    "--older-than",
    type=click.FloatRange(1),
    default=24.0,
    show_default=True,
    help="Hours that a file must have been there; longer than any rebuild that is under way.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@readable_errors
def gc(where: str, index_endpoint: str, keep: int, older_than: float, dry_run: bool) -> None:
    """Remove files that no collection, generation or snapshot needs.

    The indexer clears each shard by itself; this also finds what removed collections, snapshots
    that were broken off and crashes left behind.
    """
    from core.index_store.sweeping import sweep

    store = _store(where, index_endpoint)
    age = older_than * _HOUR_SECONDS
    cleared = sweep(store, keep=keep, minimum_age_seconds=age, dry_run=dry_run)
    for key in cleared.keys if dry_run else ():
        click.echo(key)
    console.print(
        f"{len(cleared.keys):,} files of {cleared.removed_bytes:,} bytes "
        f"{'would go' if dry_run else 'removed'}, {cleared.kept_files:,} of "
        f"{cleared.kept_bytes:,} bytes stay"
    )


@click.command()
@click.argument("collection")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@address_option
@readable_errors
def export(collection: str, file: Path, address: str | None) -> None:
    """Write the documents of COLLECTION into FILE as JSON lines, compressed if it ends in .gz.

    `trireme index import` reads them. Moments become texts, and versions are counted anew; a
    snapshot keeps both.
    """
    part = file.with_name(f"{file.name}.part")
    opened: Any = gzip.open if file.suffix == ".gz" else open
    with connected(address) as channel, opened(part, "wt", encoding="utf-8") as lines:
        count = export_documents(channel, collection, lines)
    part.replace(file)
    console.print(f"{count:,} documents of [bold]{collection}[/] in {file}")


def export_documents(channel: grpc.Channel, collection: str, lines: Any) -> int:
    """Writes every document as a line into a text file; returns how many there were."""
    stub = document_pb2_grpc.DocumentServiceStub(channel)
    count, token = 0, ""
    while True:
        page = stub.ListDocuments(
            document_pb2.ListDocumentsRequest(
                collection=collection, page_size=PAGE, page_token=token
            ),
            timeout=SECONDS,
        )
        for message in page.documents:
            lines.write(json.dumps(_line(message), ensure_ascii=False) + "\n")
        count += len(page.documents)
        token = page.next_page_token
        if not token:
            return count


def _line(message: document_pb2.Document) -> dict[str, object]:
    document = document_from_proto(message, "document")
    attributes = {
        name: value["timestamp"] if isinstance(value, dict) else value
        for name, value in attributes_to_json(document.attributes).items()
    }
    return {**attributes, "_id": document.id, "title": document.title, "text": document.text}


def _known(address: str | None) -> list[collection_pb2.Collection] | None:
    """The collections of a cluster; None without one that runs."""
    try:
        with connected(address) as channel:
            return list_collections(channel)
    except (click.UsageError, grpc.RpcError):
        if address:
            raise
        return None


def _committed(
    store: IndexStore, known: Iterable[collection_pb2.Collection]
) -> dict[tuple[str, int], int]:
    """The generation of each shard that the cluster knows, by the uid of the index.

    One that is not in the store keeps its collection's uid, so that it is missed. A collection
    with two indexes is left out: which of them answers is not told.
    """
    uids: dict[str, list[str]] = {}
    # What cannot be read is for `verify` to tell.
    with contextlib.suppress(CorruptFile):
        for entry in store.collections():
            uids.setdefault(entry.name.partition("~")[0], []).append(entry.uid)
    return {
        (found[0], shard.shard): shard.generation
        for each in known
        if len(found := uids.get(each.name, [each.uid])) == 1
        for shard in each.shards
    }


def _print(report: Verified, *, compared: bool) -> None:
    table = Table("collection", "shard", "damage", box=None)
    for damage in report.damages:
        shard = str(damage.shard) if damage.shard >= 0 else ""
        table.add_row(damage.collection, shard, damage.problem)
    if report.damages:
        console.print(table)
    verdict = "[bold green]sound[/]" if report.is_sound else f"{len(report.damages)} damages"
    console.print(
        f"{report.collections:,} collections, {report.shards:,} shards, {report.files:,} files, "
        f"{report.bytes:,} bytes: {verdict}"
    )
    if not compared:
        console.print("no cluster runs: not compared with the document store")
