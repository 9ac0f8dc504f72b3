"""What a model reads of the texts that callers bring: checked, tokenised, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.documents import check_count, check_text
from core.encoding import CrossEncoder, Encoder, SparseEncoder
from core.errors import InvalidInput
from core.tokens import Tokenizer, Tokens

MAX_TEXTS = 256
MAX_TEXTS_BYTES = 1024 * 1024

# Tokenising this much takes one or two milliseconds; more would hold up everybody else.
_CHARACTERS_IN_LOOP = 4096

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One text's token ids with its prompt, as far as the model reads them, without special tokens.

    `token_count` is how many tokens that are in the model's input.
    """

    ids: Ids
    token_count: int
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A query and the passages it is read with."""

    query: Cut
    passages: Sequence[Cut]


def check_texts(texts: Sequence[str], path: str) -> None:
    """Raises InvalidInput unless these are 1 to MAX_TEXTS texts, none blank, of bounded size."""
    check_count(len(texts), path, MAX_TEXTS)
    total = sum(_check_one(text, f"{path}[{n}]") for n, text in enumerate(texts))
    if total > MAX_TEXTS_BYTES:
        raise InvalidInput(
            "TOO_LONG",
            f"has {total:,} bytes together, the limit is {MAX_TEXTS_BYTES:,}",
            field=path,
            remedy="send fewer at a time",
        )


def check_query(text: str, limit: int) -> None:
    """Raises InvalidInput unless this can be a query of at most `limit` bytes."""
    check_text(text, limit, "query")
    if not text.strip():
        raise InvalidInput(
            "FIELD_REQUIRED", "is empty", field="query", remedy="say what is looked for"
        )


async def read_texts(
    model: Encoder | SparseEncoder, texts: Sequence[str], *, query: bool, path: str = "texts"
) -> list[Cut]:
    """What `model` reads of each text, with the prompt before it.

    Raises InvalidInput for a text of which no token is left.
    """
    prompt = model.info.prompt(query=query)
    tokens = await _tokenise(model.tokenizer, [prompt + text for text in texts])
    special = model.tokenizer.single.count
    room = model.info.max_length - special
    start = len(prompt.encode())
    for number, found in enumerate(tokens):
        _check_readable(found, start, f"{path}[{number}]")
    return [_cut(found, room, special) for found in tokens]


async def read_pairs(model: CrossEncoder, query: str, passages: Sequence[str]) -> Pairs:
    """What `model` reads of a query and of each passage beside it; see CrossEncoder.logits.

    Raises InvalidInput for a query or a passage of which no token is left.
    """
    asked, *tokens = await _tokenise(model.tokenizer, [query, *passages])
    _check_readable(asked, 0, "query")
    for number, found in enumerate(tokens):
        _check_readable(found, 0, f"passages[{number}]")
    room = model.info.max_length - model.tokenizer.pair.count
    head = _cut(asked, room // 2, 0)
    return Pairs(head, [_cut(found, room - head.token_count, 0) for found in tokens])


def _check_one(text: str, path: str) -> int:
    size = check_text(text, MAX_TEXTS_BYTES, path)
    if not text.strip():
        raise InvalidInput("FIELD_REQUIRED", "is empty", field=path, remedy="leave it out")
    return size


async def _tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens]:
    if sum(map(len, texts)) <= _CHARACTERS_IN_LOOP:
        return tokenizer.encode_batch(texts)
    return await asyncio.to_thread(tokenizer.encode_batch, texts)


def _check_readable(tokens: Tokens, start: int, path: str) -> None:
    """Looks for a token that ends after byte `start`, where the prompt ends.

    Counting tokens would not do: the prompt's last one may have merged with the text's first.
    """
    if tokens.ends.max(initial=0) <= start:
        raise InvalidInput(
            "FIELD_REQUIRED",
            "holds nothing that the model can read",
            field=path,
            remedy="use letters or digits",
        )


def _cut(tokens: Tokens, room: int, special: int) -> Cut:
    ids = tokens.ids[:room]
    return Cut(ids, len(ids) + special, truncated=len(tokens) > room)
