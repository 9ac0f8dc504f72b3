"""`trireme explain`: why a document is where it is in an answer, or why it is not there."""

from __future__ import annotations

import click
from google.protobuf.json_format import MessageToJson
from rich.table import Table
from rich.text import Text

from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.passage import title_text
from deploy.cli.reply import print_settings, print_shortfalls, print_understood, stage_name
from deploy.cli.search_options import search_options
from trireme.v1 import search_pb2, search_pb2_grpc


@click.command()
@search_options
@click.argument("document_id")
@click.option("--deadline", type=float, default=10.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
@address_option
@readable_errors
def explain(
    request: search_pb2.SearchRequest,
    document_id: str,
    deadline: float,
    as_json: bool,
    address: str | None,
) -> None:
    """Say why DOCUMENT_ID is, or is not, among the hits for QUERY in COLLECTION."""
    asked = search_pb2.ExplainHitRequest(search=request, document_id=document_id)
    with connected(address) as channel:
        reply = search_pb2_grpc.SearchServiceStub(channel).ExplainHit(asked, timeout=deadline)
    if as_json:
        click.echo(MessageToJson(reply, preserving_proto_field_name=True))
        return
    print_explanation(reply, document_id)
    print_understood(reply.answer)
    print_settings(reply.answer)
    print_shortfalls(reply.answer)


def print_explanation(reply: search_pb2.ExplainHitResponse, document_id: str) -> None:
    """How far the document came, and its place in each leg."""
    outcome = search_pb2.HitOutcome.Name(reply.outcome).removeprefix("HIT_OUTCOME_")
    verdict = outcome.lower().replace("_", " ")
    is_hit = reply.outcome == search_pb2.HIT_OUTCOME_RETURNED
    fell = "" if is_hit else f", fell out at {stage_name(reply.stage)}"
    title = title_text(reply.hit) if reply.HasField("hit") else Text(document_id, style="bold")
    console.print(title.append(f"  {verdict}{fell}", style="green" if is_hit else "yellow"))
    console.print(Text(reply.message))
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("leg")
    for heading in ("rank", "score", "window", "ends at"):
        table.add_column(heading, justify="right")
    table.add_column("candidate")
    for leg in reply.legs:
        table.add_row(*_cells(leg))
    console.print(table)


def _cells(leg: search_pb2.LegOutcome) -> list[str]:
    name = search_pb2.SearchLeg.Name(leg.leg).removeprefix("SEARCH_LEG_").lower()
    place = [str(leg.rank), f"{leg.score:.4g}"] if leg.rank else ["-", "-"]
    within = "yes" if leg.within_window else "no" if leg.answered else "no answer"
    return [name, *place, str(leg.window), f"{leg.last_score:.4g}", within]
