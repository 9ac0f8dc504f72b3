"""Texts' token ids to vectors, and query-passage pairs to scores, through Triton.

Triton's batcher merges only requests of equal shape and is blind to length. So texts are sorted
by length, padded to a few lengths, cut into requests of bounded size and sent a few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.errors import BadModelOutput, ModelMismatch
from core.tokens import Tokenizer
from core.triton import ModelInfo, TritonClient

# What runs cannot be interrupted: a query waits for the request before it, and on two CPU cores
# 1024 tokens take a quarter of a second. One request in the queue keeps Triton busy; Triton would
# merge several into one long run.
TOKENS_PER_REQUEST = 1024
REQUESTS_AT_ONCE = 2

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Piece:
    """One request: which rows, padded to how many tokens."""

    rows: tuple[int, ...]
    length: int


def plan_pieces(
    lengths: Sequence[int], *, max_length: int, max_rows: int, max_tokens: int
) -> list[Piece]:
    """Splits rows of the given lengths (in tokens) into requests, longest first.

    No request holds more than `max_rows` rows, nor more than `max_tokens` padded tokens unless one
    row alone does.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    pieces = []
    start = 0
    while start < len(order):
        length = padded_length(lengths[order[start]], max_length)
        count = max(1, min(max_rows, max_tokens // length))
        pieces.append(Piece(tuple(order[start : start + count]), length))
        start += count
    return pieces


def padded_length(length: int, max_length: int) -> int:
    """The next multiple of 8 up to 64, of 16 up to 256, of 32 beyond; at most `max_length`."""
    step = 8 if length <= 64 else 16 if length <= 256 else 32
    return min(max_length, -(-length // step) * step)


class _Model:
    """What both kinds of model share: a served model and its tokenizer."""

    kind = ""

    def __init__(
        self, triton: TritonClient, info: ModelInfo, tokenizer: Tokenizer, max_tokens: int
    ) -> None:
        self._triton = triton
        self.info = info
        self.tokenizer = tokenizer
        self._max_tokens = max_tokens

    @classmethod
    async def create(
        cls,
        triton: TritonClient,
        model: str,
        version: str,
        model_directory: Path,
        deadline: Deadline,
        *,
        tokens_per_request: int = TOKENS_PER_REQUEST,
    ) -> Self:
        """Asks Triton for the model (version "": the newest) and loads its tokenizer.

        The tokenizer is `<model_directory>/<model>/tokenizer.json`. Raises what
        TritonClient.model_info does, and ModelMismatch if the kind or the tokenizer is another.
        """
        info = await triton.model_info(model, version, deadline)
        if info.kind != cls.kind:
            raise ModelMismatch(
                f"is a {info.kind}, not a {cls.kind}", field=model, remedy="name another model"
            )
        path = model_directory / model / "tokenizer.json"
        tokenizer = await asyncio.to_thread(Tokenizer.load, path, info.tokenizer_sha256)
        return cls(triton, info, tokenizer, tokens_per_request)

    def _plan(self, lengths: Sequence[int]) -> list[Piece]:
        return plan_pieces(
            lengths,
            max_length=self.info.max_length,
            max_rows=max(1, self.info.max_batch_size),
            max_tokens=self._max_tokens,
        )

    async def _infer(
        self, inputs: list[NDArray[np.int64]], deadline: Deadline, priority: int, *, width: int
    ) -> NDArray[np.float32]:
        """Runs the model over ids, mask and (dropped if it takes none) token types: [n, width]."""
        output = await self._triton.infer(
            self.info.name,
            self.info.version,
            inputs[: self.info.input_count],
            deadline,
            priority=priority,
        )
        if output.size != len(output) * width:
            raise BadModelOutput(
                f"model {self.info.name} returned shape {list(output.shape)}, not [n, {width}]"
            )
        return output.reshape(-1, width)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.name}:{self.info.version}>"


class Encoder(_Model):
    """A bi-encoder: text to vector."""

    kind = "bi_encoder"

    async def encode(
        self, token_ids: Sequence[Ids], deadline: Deadline, *, priority: int = 2
    ) -> NDArray[np.float32]:
        """Embeds texts given as token ids without special tokens: float32 [n, dimension].

        A text longer than `info.max_length` with its special tokens is cut there. Raises what
        TritonClient.infer does.
        """
        template = self.tokenizer.single
        room = self.info.max_length - template.count
        before, after = len(template.before), len(template.after)
        texts = [ids[:room] for ids in token_ids]
        vectors = np.empty((len(texts), self.info.dimension), dtype=np.float32)

        async def send(piece: Piece) -> None:
            ids, mask, types = _blank(piece, self.tokenizer.pad_id)
            for row, number in enumerate(piece.rows):
                end = before + len(texts[number])
                ids[row, :before] = template.before
                ids[row, before:end] = texts[number]
                ids[row, end : end + after] = template.after
                mask[row, : end + after] = 1
            vectors[list(piece.rows)] = await self._infer(
                [ids, mask, types], deadline, priority, width=self.info.dimension
            )

        await _send_all(self._plan([len(text) + template.count for text in texts]), send)
        return vectors


class CrossEncoder(_Model):
    """A cross-encoder: query and passage to one logit."""

    kind = "cross_encoder"

    async def score(
        self, query_ids: Ids, passages: Sequence[Ids], deadline: Deadline, *, priority: int = 1
    ) -> NDArray[np.float32]:
        """Scores passages against a query, both token ids without special tokens: float32 [n].

        The query is cut to half of `info.max_length`, a passage to what then is left. Raises what
        TritonClient.infer does.
        """
        template = self.tokenizer.pair
        query = query_ids[: (self.info.max_length - template.count) // 2]
        head = np.concatenate([template.before, query, template.between])
        after = len(template.after)
        room = self.info.max_length - len(head) - after
        texts = [ids[:room] for ids in passages]
        scores = np.empty(len(texts), dtype=np.float32)

        async def send(piece: Piece) -> None:
            ids, mask, types = _blank(piece, self.tokenizer.pad_id)
            ids[:, : len(head)] = head
            types[:, : len(head)] = template.types[0]
            for row, number in enumerate(piece.rows):
                end = len(head) + len(texts[number])
                ids[row, len(head) : end] = texts[number]
                ids[row, end : end + after] = template.after
                mask[row, : end + after] = 1
                types[row, len(head) : end + after] = template.types[1]
            output = await self._infer([ids, mask, types], deadline, priority, width=1)
            scores[list(piece.rows)] = output[:, 0]

        await _send_all(self._plan([len(head) + len(text) + after for text in texts]), send)
        return scores


def _blank(
    piece: Piece, pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ids (all padding), mask and token types (all 0) of one request: int64 [rows, length]."""
    shape = (len(piece.rows), piece.length)
    mask = np.zeros(shape, dtype=np.int64)
    return np.full(shape, pad_id, dtype=np.int64), mask, np.zeros(shape, dtype=np.int64)


async def _send_all(pieces: Sequence[Piece], send: Callable[[Piece], Awaitable[None]]) -> None:
    """Sends every piece, REQUESTS_AT_ONCE at a time; the first failure ends it and is raised."""
    if len(pieces) == 1:
        await send(pieces[0])
        return
    waiting = iter(pieces)

    async def work() -> None:
        for piece in waiting:
            await send(piece)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(REQUESTS_AT_ONCE, len(pieces))):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
