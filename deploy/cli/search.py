"""`trireme search`: one query, with its explanation on request."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToJson
from rich.table import Table
from rich.text import Text

from deploy.cli.client import address_option, connected, console, errors, readable_errors
from trireme.v1 import error_reason_pb2, search_pb2, search_pb2_grpc

MODES = {
    "hybrid": search_pb2.SEARCH_MODE_HYBRID,
    "dense": search_pb2.SEARCH_MODE_DENSE,
    "lexical": search_pb2.SEARCH_MODE_LEXICAL,
    "sparse": search_pb2.SEARCH_MODE_SPARSE,
}
LEGS = ("dense", "lexical")
SNIPPET_CHARACTERS = 160
BAR_CHARACTERS = 40


@click.command()
@click.argument("collection")
@click.argument("query")
@click.option("--top", type=int, default=10, show_default=True, help="Hits wanted.")
@click.option("--mode", type=click.Choice(list(MODES)), default="hybrid", show_default=True)
@click.option("--rerank/--no-rerank", default=True, help="Let the cross-encoder read the head.")
@click.option("--depth", type=int, default=0, help="Documents to rerank. Default: the gateway's.")
@click.option("--filter", "filter_", metavar="EXPR", default="", help="Not offered yet; refused.")
@click.option("--deadline", type=float, default=10.0, show_default=True, help="Seconds.")
@click.option("--explain", is_flag=True, help="Show why each hit is there and where time went.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
@address_option
@readable_errors
def search(
    collection: str,
    query: str,
    top: int,
    mode: str,
    rerank: bool,
    depth: int,
    filter_: str,
    deadline: float,
    explain: bool,
    as_json: bool,
    address: str | None,
) -> None:
    """Find the documents of COLLECTION that answer QUERY best."""
    request = search_pb2.SearchRequest(
        collection=collection,
        query=query,
        page_size=top,
        mode=MODES[mode],
        rerank=search_pb2.Rerank(enabled=rerank, depth=depth),
        filter=filter_,
    )
    with connected(address) as channel:
        reply = search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=deadline)
    if as_json:
        console.print(MessageToJson(reply, preserving_proto_field_name=True), soft_wrap=True)
        return
    print_hits(reply, explain=explain)
    if explain:
        print_timings(reply)
    print_shortfalls(reply)


def print_hits(reply: search_pb2.SearchResponse, *, explain: bool) -> None:
    """A table of hits; with `explain` each leg's rank and score, and what reranking changed."""
    if not reply.hits:
        console.print("no document was found")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    legs = _legs(reply)
    if explain:
        for heading in (*legs, "fused", "logit", "moved"):
            table.add_column(heading, justify="right")
    table.add_column("document", ratio=1)
    for rank, hit in enumerate(reply.hits, start=1):
        cells = [str(rank), f"{hit.score:.3f}"]
        if explain:
            cells += _explained(rank, hit, legs)
        table.add_row(*cells, _described(hit, snippet=not explain))
    console.print(table)


def print_timings(reply: search_pb2.SearchResponse) -> None:
    """A time line of the stages."""
    total = max(1, reply.total_microseconds)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("inside", justify="right")
    table.add_column("when")
    for timing in reply.timings:
        before = round(BAR_CHARACTERS * timing.start_microseconds / total)
        length = max(1, round(BAR_CHARACTERS * timing.microseconds / total))
        inner = f"{timing.inner_microseconds / 1000:.1f}" if timing.inner_microseconds else ""
        table.add_row(
            search_pb2.Stage.Name(timing.stage).removeprefix("STAGE_").lower(),
            f"{timing.microseconds / 1000:.1f}",
            inner,
            Text(" " * before + "━" * length, style="cyan"),
        )
    table.add_row("total", f"{reply.total_microseconds / 1000:.1f}", "", "", style="bold")
    console.print(table)
    shards = ", ".join(
        f"{shard.shard}: generation {shard.generation}, change {shard.sequence}"
        for shard in reply.shards
    )
    console.print(f"[dim]shards {shards}; reranked {reply.rerank.depth} documents[/]")


def print_shortfalls(reply: search_pb2.SearchResponse) -> None:
    """What makes the answer less than complete, if anything does."""
    for shortfall in reply.degraded:
        stage = search_pb2.Stage.Name(shortfall.stage).removeprefix("STAGE_").lower()
        reason = error_reason_pb2.ErrorReason.Name(shortfall.reason)
        errors.print(
            f"[yellow]degraded[/] at {stage}: {shortfall.message} "
            f"[dim]({reason.removeprefix('ERROR_REASON_')})[/]"
        )


def _legs(reply: search_pb2.SearchResponse) -> Sequence[str]:
    """The legs to show: the sparse one only where it found something."""
    is_weighed = any(hit.provenance.HasField("sparse") for hit in reply.hits)
    return (*LEGS, "sparse") if is_weighed else LEGS


def _explained(rank: int, hit: search_pb2.Hit, legs: Sequence[str]) -> list[str]:
    why = hit.provenance
    logit = f"{why.rerank_logit:+.2f}" if why.HasField("rerank_logit") else "-"
    moved = why.fused_rank - rank
    return [
        *(_place(getattr(why, leg)) if why.HasField(leg) else "-" for leg in legs),  # type: ignore[arg-type]
        f"{why.fused_rank}: {why.fused_score:.4f}",
        logit,
        f"{moved:+d}" if moved else "=",
    ]


def _place(place: search_pb2.LegRank) -> str:
    return f"{place.rank}: {place.score:.3f}"


def _described(hit: search_pb2.Hit, *, snippet: bool) -> Text:
    document = hit.document
    described = Text(document.title or document.id, style="bold")
    if document.title and document.title != document.id:
        described.append(f"  {document.id}", style="dim")
    if snippet:
        described.append(f"\n{_snippet(hit)}", style="default not bold")
    return described


def _snippet(hit: search_pb2.Hit) -> str:
    """The beginning of the best passage, with dots where something is left out."""
    start, end = hit.passage.start_byte, hit.passage.end_byte
    words = " ".join(hit.document.text.encode()[start:end].decode(errors="ignore").split())
    shown = textwrap.shorten(words, SNIPPET_CHARACTERS, placeholder=" …")
    return f"… {shown}" if start else shown
