"""`trireme aliases`: second names of collections, moved in one step."""

from __future__ import annotations

import json

import click
import grpc
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from core.rpc import reason_of
from deploy.cli.client import address_option, connected, console, readable_errors
from trireme.v1 import alias_pb2, alias_pb2_grpc

CALL_SECONDS = 10.0


@click.group()
def aliases() -> None:
    """List, set and delete second names of collections."""


@aliases.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def list_(as_json: bool, address: str | None) -> None:
    """Show every alias and the collection that it stands for."""
    with connected(address) as channel:
        found = list_aliases(channel)
    if as_json:
        shown = [MessageToDict(each, preserving_proto_field_name=True) for each in found]
        click.echo(json.dumps(shown, indent=2))
        return
    if not found:
        console.print("no aliases yet; `trireme aliases set ALIAS COLLECTION` makes one")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("alias", "collection"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column("moved")
    for each in found:
        moved = each.update_time.ToDatetime().isoformat(" ", "seconds")
        table.add_row(each.name, each.collection, f"{moved} UTC")
    console.print(table)


@aliases.command("set")
@click.argument("alias")
@click.argument("collection")
@address_option
@readable_errors
def set_(alias: str, collection: str, address: str | None) -> None:
    """Let ALIAS stand for COLLECTION from now on, whether it is there already or not."""
    wanted = alias_pb2.Alias(name=alias, collection=collection)
    with connected(address) as channel:
        stub = alias_pb2_grpc.AliasServiceStub(channel)
        try:
            stub.UpdateAlias(alias_pb2.UpdateAliasRequest(alias=wanted), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            if reason_of(error) != "ALIAS_NOT_FOUND":
                raise
            stub.CreateAlias(alias_pb2.CreateAliasRequest(alias=wanted), timeout=CALL_SECONDS)
    console.print(f"[bold]{alias}[/] stands for [bold]{collection}[/]")


@aliases.command()
@click.argument("alias")
@address_option
@readable_errors
def delete(alias: str, address: str | None) -> None:
    """Take ALIAS away; the collection stays."""
    with connected(address) as channel:
        stub = alias_pb2_grpc.AliasServiceStub(channel)
        stub.DeleteAlias(alias_pb2.DeleteAliasRequest(name=alias), timeout=CALL_SECONDS)
    console.print(f"[bold]{alias}[/] is no name any more")


def list_aliases(channel: grpc.Channel) -> list[alias_pb2.Alias]:
    """All aliases, page by page."""
    stub = alias_pb2_grpc.AliasServiceStub(channel)
    found: list[alias_pb2.Alias] = []
    token = ""
    while True:
        request = alias_pb2.ListAliasesRequest(page_token=token)
        page = stub.ListAliases(request, timeout=CALL_SECONDS)
        found.extend(page.aliases)
        token = page.next_page_token
        if not token:
            return found
