"""Who embeds when: indexes that searches read go first, others take what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import SparseVector
from core.tokens import Tokenizer
from core.triton import BULK_PRIORITY, ModelInfo
from indexer.encoders import EncoderSource, TermEncoder, TextEncoder

TOKENS_AT_ONCE = 2_048
"""What an index behind others embeds in one turn: those in front wait for one turn at most."""

LONGEST_WAIT_SECONDS = 5.0
"""After so long a turn is taken whatever is in front, so that a migration ends under any load."""

Ids = NDArray[np.int32]
Encoded = TypeVar("Encoded")


class Precedence:
    """Counts who is at work in front."""

    def __init__(self) -> None:
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def in_front(self) -> AsyncIterator[None]:
        """For the time of a block others stand back."""
        self._working += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def until_idle(self, seconds: float) -> None:
        """Returns once nobody is at work in front, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()


class Pace:
    """How one index takes its turns; its attributes may be changed at any time.

    `behind`: it stands back for those that are not. `tokens_per_second` limits it, 0 does not.
    While `held`, it begins nothing new.
    """

    def __init__(
        self, precedence: Precedence, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.behind = False
        self.tokens_per_second = 0
        self._precedence = precedence
        self._clock = clock
        self._next_at = 0.0
        self._free = asyncio.Event()
        self._free.set()

    def hold(self, held: bool) -> None:
        """Begins or ends a hold."""
        if held:
            self._free.clear()
        else:
            self._free.set()

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[None]:
        """Waits for its turn to embed so many tokens, and takes it for the time of a block."""
        await self._free.wait()
        if not self.behind:
            async with self._precedence.in_front():
                yield
            return
        await asyncio.sleep(self.due_in(tokens))
        await self._precedence.until_idle(LONGEST_WAIT_SECONDS)
        yield

    def due_in(self, tokens: int) -> float:
        """Seconds until so many tokens may begin; counts them as begun then.

        What was not used is not saved up.
        """
        now = self._clock()
        begin = max(now, self._next_at)
        if self.tokens_per_second:
            self._next_at = begin + tokens / self.tokens_per_second
        return begin - now

    def pieces(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Ranges of texts of these lengths in tokens that are embedded in one turn each."""
        if not self.behind:
            return [(0, len(lengths))]
        ranges, first, total = [], 0, 0
        for number, length in enumerate(lengths):
            if number > first and total + length > TOKENS_AT_ONCE:
                ranges.append((first, number))
                first, total = number, 0
            total += length
        return [*ranges, (first, len(lengths))]


class PacedTexts:
    """A text encoder that waits for its turns."""

    def __init__(self, encoder: TextEncoder, pace: Pace) -> None:
        self.info: ModelInfo = encoder.info
        self.tokenizer: Tokenizer = encoder.tokenizer
        self._encoder = encoder
        self._pace = pace

    def prompt_tokens(self, *, query: bool) -> int:
        """As the encoder's."""
        return self._encoder.prompt_tokens(query=query)

    async def encode(
        self,
        token_ids: Sequence[Ids],
        deadline: Deadline,
        *,
        priority: int = BULK_PRIORITY,
        prompt_tokens: int = 0,
    ) -> NDArray[np.float32]:
        """As the encoder's; waiting does not count against the deadline."""
        seconds, parts = deadline.remaining(), []
        lengths = [len(ids) for ids in token_ids]
        for first, end in self._pace.pieces(lengths):
            async with self._pace.turn(sum(lengths[first:end])):
                part = self._encoder.encode(
                    token_ids[first:end],
                    Deadline.after(seconds),
                    priority=priority,
                    prompt_tokens=prompt_tokens,
                )
                parts.append(await part)
        return np.concatenate(parts)


class PacedTerms:
    """A sparse encoder that waits for its turns."""

    def __init__(self, encoder: TermEncoder, pace: Pace) -> None:
        self.info: ModelInfo = encoder.info
        self.tokenizer: Tokenizer = encoder.tokenizer
        self._encoder = encoder
        self._pace = pace

    async def encode(
        self, token_ids: Sequence[Ids], deadline: Deadline, *, priority: int = BULK_PRIORITY
    ) -> list[SparseVector]:
        """As the encoder's; waiting does not count against the deadline."""
        seconds = deadline.remaining()
        terms: list[SparseVector] = []
        lengths = [len(ids) for ids in token_ids]
        for first, end in self._pace.pieces(lengths):
            async with self._pace.turn(sum(lengths[first:end])):
                terms += await self._encoder.encode(
                    token_ids[first:end], Deadline.after(seconds), priority=priority
                )
        return terms


class PacedEncoders:
    """The encoders of a source, as one index asks them."""

    def __init__(self, source: EncoderSource, pace: Pace) -> None:
        self._source = source
        self._pace = pace

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        """As the source's, paced."""
        return PacedTexts(await self._source.newest(model, deadline), self._pace)

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        """As the source's, paced."""
        found = await self._source.get(model, version, deadline, fingerprint=fingerprint)
        return PacedTexts(found, self._pace)

    async def get_sparse(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TermEncoder:
        """As the source's, paced."""
        found = await self._source.get_sparse(model, version, deadline, fingerprint=fingerprint)
        return PacedTerms(found, self._pace)

    def forget(self, model: str, version: str) -> None:
        """As the source's."""
        self._source.forget(model, version)
