"""`trireme search`: one query, page by page if wanted, with its explanation on request."""

from __future__ import annotations

from collections.abc import Iterator

import click
import grpc
from google.protobuf.json_format import MessageToJson

from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.hits import print_hits
from deploy.cli.reply import print_settings, print_shortfalls, print_timings, print_understood
from deploy.cli.search_options import search_options
from trireme.v1 import search_pb2, search_pb2_grpc


@click.command()
@search_options
@click.option("--pages", type=click.IntRange(1), default=1, show_default=True, help="Pages wanted.")
@click.option("--deadline", type=float, default=10.0, show_default=True, help="Seconds per page.")
@click.option("--explain", is_flag=True, help="Show why each hit is there and where time went.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
@address_option
@readable_errors
def search(
    request: search_pb2.SearchRequest,
    pages: int,
    deadline: float,
    explain: bool,
    as_json: bool,
    address: str | None,
) -> None:
    """Find the documents of COLLECTION that answer QUERY best."""
    request.highlight = request.highlight or explain
    shown = 0
    with connected(address) as channel:
        for reply in _walk(channel, request, pages, deadline):
            if as_json:
                click.echo(MessageToJson(reply, preserving_proto_field_name=True))
                continue
            if not shown:
                print_understood(reply)
            print_hits(reply, explain=explain, after=shown)
            shown += len(reply.groups) or len(reply.hits)
            if explain:
                print_settings(reply)
                print_timings(reply)
            print_shortfalls(reply)
            if reply.next_page_token:
                more = "groups" if reply.groups else "hits"
                console.print(f"[dim]{reply.candidate_count} candidates; more {more} follow[/]")


def _walk(
    channel: grpc.Channel, request: search_pb2.SearchRequest, pages: int, seconds: float
) -> Iterator[search_pb2.SearchResponse]:
    """Up to `pages` pages of one answer."""
    stub = search_pb2_grpc.SearchServiceStub(channel)
    for _ in range(pages):
        reply = stub.Search(request, timeout=seconds)
        yield reply
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token
