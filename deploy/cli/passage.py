"""The words of a hit, with those of the query marked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.text import Text

from trireme.v1 import search_pb2

MARK = "bold yellow"
# A passage is shown from a little before its first marked word.
_BEFORE_MARK = 40


def title_text(hit: search_pb2.Hit) -> Text:
    """The title with its marks, then the id if it says something else."""
    document = hit.document
    if not document.title:
        return Text(document.id, style="bold")
    data = document.title.encode()
    title = _marked(data, 0, len(data), hit.title_highlights)
    title.stylize_before("bold")
    if document.title != document.id:
        title.append(f"  {document.id}", style="dim")
    return title


def passage_text(hit: search_pb2.Hit, characters: int) -> Text:
    """About `characters` of the best passage, with dots where something is left out."""
    start, end = hit.passage.start_byte, hit.passage.end_byte
    data = hit.document.text.encode()
    whole = _marked(data, start, end, hit.highlights)
    first, last = _cut(whole, characters)
    shown = whole[first:last]
    shown.rstrip()
    if first or start:
        shown = Text("… ").append_text(shown)
    if last < len(whole) or end < len(data.rstrip()):
        shown.append(" …")
    return shown


def _cut(whole: Text, characters: int) -> tuple[int, int]:
    """The part to show: from the beginning, or from before the first mark if that is far."""
    marks = [span.start for span in whole.spans if span.style == MARK]
    first = 0
    if marks and marks[0] > characters - _BEFORE_MARK:
        first = whole.plain.find(" ", marks[0] - _BEFORE_MARK) + 1
    if len(whole) - first <= characters:
        return first, len(whole)
    return first, max(whole.plain.rfind(" ", first, first + characters), first + 1)


def _marked(data: bytes, start: int, end: int, spans: Iterable[search_pb2.TextSpan]) -> Text:
    """The bytes from `start` to `end` as text on one line."""
    text, at = Text(), start
    for span in spans:
        text.append(_line(data[at : span.start_byte]))
        text.append(_line(data[span.start_byte : span.end_byte]), style=MARK)
        at = span.end_byte
    text.append(_line(data[at:end]))
    return text


def _line(data: bytes) -> str:
    return re.sub(r"\s+", " ", data.decode(errors="ignore"))
