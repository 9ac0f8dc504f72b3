"""`trireme quarantine`: documents that could not be embedded, looked at and tried again."""

from __future__ import annotations

import json

import click
import grpc
from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text

from deploy.cli.client import address_option, connected, console, readable_errors
from trireme.v1 import operations_pb2, operations_pb2_grpc

CALL_SECONDS = 30.0
BATCH = 256


@click.group()
def quarantine() -> None:
    """Look at documents that were set aside, and try them again."""


@quarantine.command("list")
@click.argument("collection")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def list_(collection: str, as_json: bool, address: str | None) -> None:
    """Show the documents of COLLECTION that were set aside, and why."""
    with connected(address) as channel:
        found = list_quarantined(channel, collection)
    if as_json:
        shown = [MessageToDict(each, preserving_proto_field_name=True) for each in found]
        click.echo(json.dumps(shown, indent=2))
        return
    if not found:
        console.print(f"no document of [bold]{collection}[/] is set aside")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("document", overflow="fold")
    for heading in ("version", "shard", "tries"):
        table.add_column(heading, justify="right")
    table.add_column("last failed")
    table.add_column("reason", overflow="fold")
    for each in found:
        failed = each.last_time.ToDatetime().isoformat(" ", "seconds")
        numbers = (str(each.version), str(each.shard), str(each.attempts))
        table.add_row(Text(each.id), *numbers, f"{failed} UTC", Text(each.reason))
    console.print(table)


@quarantine.command()
@click.argument("collection")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that are set aside now.")
@address_option
@readable_errors
def retry(collection: str, ids: tuple[str, ...], every: bool, address: str | None) -> None:
    """Write documents that were set aside again, so that they are tried once more.

    Each becomes a new version with the same content. What fails again is set aside again.
    """
    if bool(ids) == every:
        raise click.UsageError("name documents, or give --all")
    with connected(address) as channel:
        wanted = list(ids) or [each.id for each in list_quarantined(channel, collection)]
        count = sum(_retry(channel, collection, part) for part in _parts(wanted))
    console.print(f"{count:,} documents of [bold]{collection}[/] are tried again")


def list_quarantined(
    channel: grpc.Channel, collection: str
) -> list[operations_pb2.QuarantinedDocument]:
    """All of a collection, page by page."""
    stub = operations_pb2_grpc.OperationsServiceStub(channel)
    found: list[operations_pb2.QuarantinedDocument] = []
    token = ""
    while True:
        request = operations_pb2.ListQuarantinedDocumentsRequest(
            collection=collection, page_token=token
        )
        page = stub.ListQuarantinedDocuments(request, timeout=CALL_SECONDS)
        found.extend(page.documents)
        token = page.next_page_token
        if not token:
            return found


def _retry(channel: grpc.Channel, collection: str, ids: list[str]) -> int:
    stub = operations_pb2_grpc.OperationsServiceStub(channel)
    request = operations_pb2.RetryQuarantinedDocumentsRequest(collection=collection, ids=ids)
    return int(stub.RetryQuarantinedDocuments(request, timeout=CALL_SECONDS).retried_count)


def _parts(ids: list[str]) -> list[list[str]]:
    return [ids[first : first + BATCH] for first in range(0, len(ids), BATCH)]
