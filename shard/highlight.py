"""Which words of a document a query asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.analysis import Analyzer
from shard.fetched import Fetched


@dataclass(frozen=True, slots=True)
class Marks:
    """Where words stand: first byte and one past the last, in turn, ascending.

    `text` is of the best passage, in bytes of the document's text; `title` is of the title.
    """

    text: Sequence[int] = ()
    title: Sequence[int] = ()


NO_MARKS = Marks()


def mark(fetched: Sequence[Fetched], query: str, analyzer: Analyzer) -> list[Marks]:
    """Marks the words of each document whose analysed forms are among the query's.

    Stop words are only marked if the query has nothing else.
    """
    terms = analyzer.query_terms(query).keys()
    if not terms:
        return [NO_MARKS] * len(fetched)
    found = []
    for each in fetched:
        document = each.document
        title = analyzer.marks_of(document.title, terms)
        if each.passage is None:
            found.append(Marks(title=title))
            continue
        start, passage = _passage(
            document.text.encode(), each.passage.start_byte, each.passage.end_byte
        )
        found.append(Marks([start + byte for byte in analyzer.marks_of(passage, terms)], title))
    return found


def _passage(text: bytes, start: int, end: int) -> tuple[int, str]:
    """A passage and its first byte; tokens may have cut it within a character."""
    while start < end and text[start] & 0xC0 == 0x80:
        start += 1
    return start, text[start:end].decode(errors="ignore")
