"""`trireme status`: what is stored, how far indexing has come."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table

from deploy.cli.client import address_option, connected, console, readable_errors, resolve
from trireme.v1 import collection_pb2, collection_pb2_grpc

CALL_SECONDS = 10.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def status(as_json: bool, address: str | None) -> None:
    """Show the gateway's health and every collection with its shards."""
    with connected(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS
        )
        serving = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
        collections = list_collections(channel)
    if as_json:
        shown = [MessageToDict(c, preserving_proto_field_name=True) for c in collections]
        click.echo(json.dumps({"gateway": serving, "collections": shown}, indent=2))
        return
    console.print(f"gateway {resolve(address)}: [bold]{serving.lower().replace('_', ' ')}[/]")
    print_collections(collections)


def print_collections(collections: Sequence[collection_pb2.Collection]) -> None:
    """A table of collections with one row per shard."""
    if collections:
        console.print(_table(collections))
    else:
        console.print("no collections yet; `trireme index NAME FILE...` makes one")


def list_collections(channel: grpc.Channel) -> list[collection_pb2.Collection]:
    """All collections, page by page."""
    stub = collection_pb2_grpc.CollectionServiceStub(channel)
    collections: list[collection_pb2.Collection] = []
    token = ""
    while True:
        page = stub.ListCollections(
            collection_pb2.ListCollectionsRequest(page_token=token), timeout=CALL_SECONDS
        )
        collections.extend(page.collections)
        token = page.next_page_token
        if not token:
            return collections


def _models(collection: collection_pb2.Collection) -> str:
    """The encoders with what is special about their use: `bi_encoder:1 256d dot + splade:2`."""
    encoder, sparse = collection.encoder, collection.sparse_encoder
    words = f"{encoder.model}:{encoder.version} {collection.dimensions}d {collection.similarity}"
    return f"{words} + {sparse.model}:{sparse.version}" if sparse.model else words


def _table(collections: Sequence[collection_pb2.Collection]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("collection", "documents", "encoder", "shard", "generation", "changes", "lag"):
        # A name that is cut short is of no use to the next command.
        table.add_column(
            heading,
            justify="left" if heading in ("collection", "encoder") else "right",
            no_wrap=heading == "collection",
            overflow="fold",
        )
    table.add_column("set aside", justify="right")
    table.add_column("")
    for collection in collections:
        name, documents = collection.name, f"{collection.document_count:,}"
        encoder = _models(collection)
        for shard in collection.shards:
            lag = shard.head_sequence - shard.indexed_sequence
            table.add_row(
                name,
                documents,
                encoder,
                str(shard.shard),
                str(shard.generation),
                f"{shard.head_sequence:,}",
                f"{lag:,}",
                f"{shard.quarantined_count:,}",
                shard.stalled_reason,
                style="yellow" if shard.stalled_reason else "",
            )
            name = documents = encoder = ""
    return table
