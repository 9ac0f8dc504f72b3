"""Chinese, Japanese and Korean without a dictionary: every character and every pair of neighbours.

Writers put no blanks between words, so that a clause would be one word. Texts are indexed by both
lengths; a query asks by pairs, and by a single character only where that stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import tantivy

# Han with its repetition marks, kana without the middle dot, Bopomofo, Hangul; wide and half-width.
_RUNS = re.compile(
    "[\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u3096\u3099-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\u1100-\u11ff"
    "\ua960-\ua97c\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)


class Token(NamedTuple):
    """A term with its place in the text, in words and in characters, as Tantivy's tokens."""

    text: str
    position: int
    char_offset_from: int
    char_offset_to: int


def tokens_of(text: str, words: tantivy.TextAnalyzer, *, for_queries: bool = False) -> list[Token]:
    """The tokens of a text: n-grams of its runs, and what `words` makes of all between them.

    A character takes one position as a word does. With `for_queries` the longest n-grams alone.
    """
    found: list[Token] = []
    position = 0
    for start, piece, is_run in _pieces(text):
        if is_run:
            found += _grams(piece, position, start, pairs_alone=for_queries)
            position += len(piece)
            continue
        new = [_moved(token, position, start) for token in words.pre_tokenize(piece).tokens]
        found += new
        position = new[-1].position + 1 if new else position
    return found


def _pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """The text in pieces: first character, characters, whether they are a run of CJK."""
    end = 0
    for run in _RUNS.finditer(text):
        if run.start() > end:
            yield end, text[end : run.start()], False
        yield run.start(), run.group(), True
        end = run.end()
    if end < len(text):
        yield end, text[end:], False


def _grams(run: str, position: int, start: int, *, pairs_alone: bool) -> Iterator[Token]:
    """The n-grams of a run, each at the place of its first character."""
    for place, character in enumerate(run):
        at, first = position + place, start + place
        if not pairs_alone or len(run) == 1:
            yield Token(character, at, first, first + 1)
        if place + 1 < len(run):
            yield Token(run[place : place + 2], at, first, first + 2)


def _moved(token: tantivy.Token, position: int, start: int) -> Token:
    """A token of a piece, where it is in the whole text."""
    return Token(
        token.text,
        position + token.position,
        start + token.char_offset_from,
        start + token.char_offset_to,
    )
