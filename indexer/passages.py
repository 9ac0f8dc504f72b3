"""Splits a document into passages that the encoder can take whole.

Every passage is embedded as head + window: the head is the model's document prompt and the title,
so a short document is embedded exactly as "title text"; windows of text overlap, so no sentence is
cut in every passage that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Passaging:
    """How documents are split, all in tokens.

    `room` is what the encoder takes without special tokens, `window` the text of one passage,
    `overlap` what neighbours share, `head` the most that prompt and title may take of each passage.
    """

    room: int
    window: int
    overlap: int
    head: int


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One passage: its bytes in the UTF-8 text, and what is embedded (int32 ids, head too).

    `sparse_ids` is the same in the sparse encoder's tokens, empty where there is none.
    """

    start_byte: int
    end_byte: int
    token_ids: NDArray[np.int32]
    sparse_ids: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


def head_of(prompt: str, title: str, text: str) -> str:
    """What stands before every passage's text."""
    return f"{prompt}{title} " if title and text else f"{prompt}{title}"


def split(tokens: Tokens, head_bytes: int, passaging: Passaging) -> list[Split]:
    """The passages of a document, given the tokens of its head and text together.

    `head_bytes` is the length of the head in UTF-8. Without any token there is no passage.
    """
    head_count = int(np.searchsorted(tokens.ends, head_bytes, side="right"))
    text_count = len(tokens) - head_count
    if not len(tokens):
        return []
    if not text_count:
        return [Split(0, 0, tokens.ids[: passaging.room])]
    head = tokens.ids[: min(head_count, passaging.head)]
    window = min(passaging.window, passaging.room - len(head))
    overlap = min(passaging.overlap, (window - 1) // 2)
    return [
        Split(
            start_byte=max(0, int(tokens.starts[head_count + first]) - head_bytes),
            end_byte=int(tokens.ends[head_count + end - 1]) - head_bytes,
            token_ids=np.concatenate([head, tokens.ids[head_count + first : head_count + end]]),
        )
        for first, end in windows(text_count, window, overlap)
    ]


def whole(tokens: Tokens, head_bytes: int, passaging: Passaging) -> NDArray[np.int32]:
    """The token ids of one passage, given those of its head and text together: int32 [<= room]."""
    head_count = int(np.searchsorted(tokens.ends, head_bytes, side="right"))
    text = tokens.ids[head_count:]
    head = tokens.ids[: min(head_count, passaging.head if len(text) else passaging.room)]
    ids: NDArray[np.int32] = np.concatenate([head, text])[: passaging.room]
    return ids


def windows(count: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `size` that cover `count` and share `overlap` with the one before."""
    first = 0
    while first + size < count:
        yield first, first + size
        first += size - overlap
    yield first, count
