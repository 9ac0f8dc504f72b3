"""`trireme status`: what is stored, how far indexing has come, what stands still."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.cli.client import address_option, connected, console, readable_errors, resolve
from deploy.cli.status_page import collection_page, overview
from trireme.v1 import collection_pb2, collection_pb2_grpc, operations_pb2, operations_pb2_grpc

CALL_SECONDS = 10.0
PAGE_SIZE = 1_000


@click.command()
@click.argument("names", nargs=-1, metavar="[COLLECTION]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def status(names: tuple[str, ...], as_json: bool, address: str | None) -> None:
    """Show the gateway's health and every collection, or each COLLECTION shard by shard."""
    with connected(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS
        )
        serving = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
        collections = get_collections(channel, names) if names else list_collections(channel)
        tasks = [list_tasks(channel, name) for name in names]
    if as_json:
        shown = [MessageToDict(c, preserving_proto_field_name=True) for c in collections]
        click.echo(json.dumps({"gateway": serving, "collections": shown}, indent=2))
        return
    console.print(f"gateway {resolve(address)}: [bold]{serving.lower().replace('_', ' ')}[/]")
    if not names:
        print_collections(collections)
    for collection, its_tasks in zip(collections, tasks, strict=False):
        console.print(*collection_page(collection, its_tasks), sep="\n")


def print_collections(collections: Sequence[collection_pb2.Collection]) -> None:
    """A table with one row for each collection."""
    if collections:
        console.print(overview(collections))
    else:
        console.print("no collections yet; `trireme index NAME FILE...` makes one")


def get_collections(channel: grpc.Channel, names: Sequence[str]) -> list[collection_pb2.Collection]:
    """These collections, by their names or aliases."""
    stub = collection_pb2_grpc.CollectionServiceStub(channel)
    requests = [collection_pb2.GetCollectionRequest(name=name) for name in names]
    return [stub.GetCollection(each, timeout=CALL_SECONDS).collection for each in requests]


def list_collections(channel: grpc.Channel) -> list[collection_pb2.Collection]:
    """All collections, page by page."""
    stub = collection_pb2_grpc.CollectionServiceStub(channel)
    collections: list[collection_pb2.Collection] = []
    token = ""
    while True:
        request = collection_pb2.ListCollectionsRequest(page_size=PAGE_SIZE, page_token=token)
        page = stub.ListCollections(request, timeout=CALL_SECONDS)
        collections.extend(page.collections)
        token = page.next_page_token
        if not token:
            return collections


def list_tasks(channel: grpc.Channel, name: str) -> list[operations_pb2.IndexTask]:
    """What is being done, or was done last, to the index of a collection."""
    stub = operations_pb2_grpc.OperationsServiceStub(channel)
    request = operations_pb2.ListIndexTasksRequest(collection=name)
    return list(stub.ListIndexTasks(request, timeout=CALL_SECONDS).tasks)
