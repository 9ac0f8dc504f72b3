"""How rows of different lengths become requests: which together, padded to what, how many at once.

Triton's batcher merges only requests of equal shape and is blind to length. So rows are sorted by
length, padded to few different lengths and cut into requests of bounded size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# What runs cannot be interrupted, so a query waits for the request before it: on two CPU cores 512
# tokens of MiniLM take some 150 ms. Larger requests are at most 4 % faster in fp32, slower in int8.
TOKENS_PER_REQUEST = 512
# A query comes behind some requests of documents. Half as many tokens in each halve that wait.
BULK_TOKENS_PER_REQUEST = 256
# One for each instance of a model, and one that waits so that none of them ever does.
INSTANCES = 2
REQUESTS_AT_ONCE = INSTANCES + 1
# Smaller requests are not worth cutting further: a query of 16 tokens takes a twentieth as long.
LEAST_TOKENS = 256
# What a request costs beside its tokens, as the time of so many tokens: 1 to 2 ms on the way, and
# smaller products are slower (MiniLM in fp32 on one core: 2,860 tokens/s of 1 x 128, 3,410 of 8).
REQUEST_TOKENS = 16

Matrix = NDArray[np.int64]
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Piece:
    """One request: which rows, padded to how many tokens."""

    rows: tuple[int, ...]
    length: int


class Batch:
    """The tensors of one request, each int64 [rows, length], to be filled row by row.

    Ids start as padding, everything else as 0.
    """

    def __init__(self, piece: Piece, pad_id: int) -> None:
        shape = (len(piece.rows), piece.length)
        self.ids: Matrix = np.full(shape, pad_id, dtype=np.int64)
        self.mask: Matrix = np.zeros(shape, dtype=np.int64)
        self.types: Matrix = np.zeros(shape, dtype=np.int64)
        self.pooling_mask: Matrix = np.zeros(shape, dtype=np.int64)

    def tensors(self, names: Sequence[str]) -> list[Matrix]:
        """Those of the given names, see core.model_info.INPUTS, in that order."""
        return [getattr(self, name) for name in names]


def plan_pieces(
    lengths: Sequence[int],
    *,
    max_length: int,
    max_rows: int,
    max_tokens: int,
    padding_is_free: bool = False,
) -> list[Piece]:
    """Splits rows of the given lengths (in tokens) into requests, longest first.

    No request holds more than `max_rows` rows, nor more than `max_tokens` padded tokens unless one
    row alone does. Of all such splits of the sorted rows it is the cheapest, where a request costs
    REQUEST_TOKENS and, unless `padding_is_free`, its padding; the tokens are the same in all.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    padded = [padded_length(lengths[row], max_length) for row in order]
    weight = 0 if padding_is_free else 1
    # costs[end] is that of the cheapest split of the first `end` rows, starts[end] where its last
    # piece begins.
    costs, starts = [0], [0]
    for end in range(1, len(order) + 1):
        cost, best = costs[end - 1] + weight * padded[end - 1] + REQUEST_TOKENS, end - 1
        for start in range(end - 2, max(0, end - max_rows) - 1, -1):
            tokens = padded[start] * (end - start)
            if tokens > max_tokens:
                break
            through = costs[start] + weight * tokens + REQUEST_TOKENS
            if through <= cost:
                cost, best = through, start
        costs.append(cost)
        starts.append(best)
    pieces, end = [], len(order)
    while end:
        pieces.append(Piece(tuple(order[starts[end] : end]), padded[starts[end]]))
        end = starts[end]
    return pieces[::-1]


def tokens_per_request(lengths: Sequence[int], most: int) -> int:
    """How many padded tokens a request may have: `most`, less where all rows would fit into few.

    So also a short list is spread over the instances of a model.
    """
    share = sum(lengths) // INSTANCES + max(lengths, default=0)
    return min(most, max(share, LEAST_TOKENS))


def padded_length(length: int, max_length: int) -> int:
    """The next multiple of 8 up to 64, of 16 up to 256, of 32 beyond; at most `max_length`."""
    step = 8 if length <= 64 else 16 if length <= 256 else 32
    return min(max_length, -(-length // step) * step)


async def send_all(
    pieces: Sequence[Part], send: Callable[[Part], Awaitable[None]], *, at_once: int
) -> None:
    """Sends every piece, `at_once` at a time; the first failure ends it and is raised."""
    if len(pieces) == 1:
        await send(pieces[0])
        return
    waiting = iter(pieces)

    async def work() -> None:
        for piece in waiting:
            await send(piece)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(pieces))):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
