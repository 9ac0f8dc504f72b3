"""Hits as people read them: what was found, and with an explanation why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploy.cli.client import console
from deploy.cli.passage import passage_text, title_text
from deploy.cli.ranking_options import LEGS
from trireme.v1 import document_pb2, search_pb2

SNIPPET_CHARACTERS = 160
# With less room beside the figures a title gets a line of its own.
_TITLE_CHARACTERS = 20
Heading = str
Row = tuple[str, search_pb2.Hit] | Heading


def print_hits(reply: search_pb2.SearchResponse, *, explain: bool, after: int = 0) -> None:
    """A table of hits or groups, numbered on from `after`; with `explain` why each is there."""
    rows = list(_rows(reply, after))
    if not rows:
        console.print("no document was found")
    elif explain:
        _print_explained(reply, rows)
    else:
        _print_snippets(rows)


def _rows(reply: search_pb2.SearchResponse, after: int) -> Iterator[Row]:
    for number, hit in enumerate(reply.hits, start=after + 1):
        yield str(number), hit
    for number, group in enumerate(reply.groups, start=after + 1):
        yield f"{_value(group.value)}: {group.size} of {reply.candidate_count} candidates"
        for place, hit in enumerate(group.hits, start=1):
            yield f"{number}.{place}", hit


def _value(value: document_pb2.AttributeValue) -> str:
    kind = value.WhichOneof("kind")
    if kind is None:
        return "no value"
    if kind == "timestamp_value":
        return value.timestamp_value.ToJsonString()
    if kind == "number_value":
        return f"{value.number_value:g}"
    return str(getattr(value, kind))


def _print_snippets(rows: Sequence[Row]) -> None:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("score", justify="right")
    table.add_column("document", ratio=1)
    for row in rows:
        if isinstance(row, Heading):
            table.add_row("", "", Text(row, style="cyan"))
            continue
        number, hit = row
        described = title_text(hit).append("\n")
        described.append_text(passage_text(hit, SNIPPET_CHARACTERS))
        table.add_row(number, f"{hit.score:.3f}", described)
    console.print(table)


def _print_explained(reply: search_pb2.SearchResponse, rows: Sequence[Row]) -> None:
    """Two lines of figures for each hit, the second of what they added, and its best passage."""
    legs = _legs(reply, [row[1] for row in rows if not isinstance(row, Heading)])
    headings = ["#", "score", *legs, "fused", "logit", "moved"]
    added = ["", "", *("adds" for _ in legs), "part", "+ part", ""]
    figures = [_figures(rank, row, legs) for rank, row in _ranked(rows)]
    lines = [headings, added, *(line for pair in figures for line in pair)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    title_fits = console.width - sum(widths) - 2 * len(widths) >= _TITLE_CHARACTERS
    _print_line(headings, widths, Text("document" if title_fits else ""), style="dim")
    _print_line(added, widths, Text(), style="dim")
    pairs = iter(figures)
    for row in rows:
        if isinstance(row, Heading):
            console.print(Text(row, style="cyan"))
            continue
        _, hit = row
        first, second = next(pairs)
        _print_line(first, widths, title_text(hit) if title_fits else Text())
        _print_line(second, widths, Text(), style="dim")
        if not title_fits:
            console.print(Padding(title_text(hit), (0, 0, 0, widths[0] + 2)))
        console.print(Padding(_located(hit, widths[0] + 2), (0, 0, 0, widths[0] + 2)))


def _ranked(rows: Sequence[Row]) -> Iterator[tuple[int, tuple[str, search_pb2.Hit]]]:
    """The hits with their rank, if it can be told: in groups it cannot."""
    for row in rows:
        if not isinstance(row, Heading):
            yield (int(row[0]) if row[0].isdigit() else 0), row


def _legs(reply: search_pb2.SearchResponse, hits: Sequence[search_pb2.Hit]) -> Sequence[str]:
    """The legs that were asked, as far as can be seen."""
    models = {"dense": reply.HasField("encoder"), "sparse": reply.HasField("sparse_encoder")}
    found = {leg for hit in hits for leg in LEGS if hit.provenance.HasField(leg)}  # type: ignore[arg-type]
    return [leg for leg in LEGS if leg in found or models.get(leg)]


def _figures(
    rank: int, row: tuple[str, search_pb2.Hit], legs: Sequence[str]
) -> tuple[list[str], list[str]]:
    number, hit = row
    why = hit.provenance
    places = [getattr(why, leg) if why.HasField(leg) else None for leg in legs]  # type: ignore[arg-type]
    was_read = why.HasField("rerank_logit")
    moved = why.fused_rank - rank
    first = [
        number,
        f"{hit.score:.3f}",
        *(f"{place.rank}: {place.score:.3f}" if place else "-" for place in places),
        f"{why.fused_rank}: {why.fused_score:.4f}",
        f"{why.rerank_logit:+.2f}" if was_read else "-",
        "" if not rank else f"{moved:+d}" if moved else "=",
    ]
    second = [
        "",
        "",
        *(f"+{place.contribution:.4f}" if place else "" for place in places),
        f"{why.fused_part:.3f}",
        f"+{why.rerank_part:.3f}" if was_read else "",
        "",
    ]
    return first, second


def _located(hit: search_pb2.Hit, indent: int) -> Text:
    """The best passage on about two lines, and where it stands."""
    why, passage = hit.provenance, hit.passage
    where = (
        f"shard {why.shard}, generation {why.generation}, "
        f"bytes {passage.start_byte}-{passage.end_byte}: "
    )
    room = 2 * (console.width - indent - 2) - len(where)
    characters = max(room, SNIPPET_CHARACTERS // 2)
    return Text.assemble((where, "dim")).append_text(passage_text(hit, characters))


def _print_line(cells: Sequence[str], widths: Sequence[int], last: Text, style: str = "") -> None:
    """Figures to the right of their columns, then what is left of the line."""
    figures = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    line = Text(f"{figures}  ", style=style).append_text(last)
    line.truncate(console.width, overflow="ellipsis")
    console.print(line, no_wrap=True)
