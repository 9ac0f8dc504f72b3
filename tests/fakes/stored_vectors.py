"""A Triton whose encoder computes nothing: it looks up vectors, over real gRPC.

With it the whole write and query path runs at the speed of everything but the encoder.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokens import Tokenizer
from indexer.passages import Passaging, head_of, split
from tests.fakes.models import FakeModel
from tests.fakes.triton import FakeTriton

ENCODER = "bi_encoder"
MAX_LENGTH = 512
# What the indexer leaves of that without special tokens, and how it splits with default settings.
PASSAGING = Passaging(room=MAX_LENGTH - 2, window=MAX_LENGTH - 2, overlap=32, head=64)

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
FindVectors = Callable[[Sequence[Ids]], Vectors]
"""Vectors, float32 [n, dimension], of n texts given as token ids without special tokens."""


class StoredVectors(FakeTriton):
    """Serves one bi-encoder whose vectors `find` knows; `model_directory` has its tokenizer.

    With the `fingerprint` of a real encoder, that one can serve the collection later.
    """

    def __init__(
        self, find: FindVectors, dimension: int, model_directory: Path, fingerprint: str = "stored"
    ) -> None:
        # An empty digest accepts the tokenizer that is there.
        parameters = (("tokenizer_sha256", ""), ("fingerprint", fingerprint))
        model = FakeModel(ENCODER, ENCODER, dimension, MAX_LENGTH, "cosine", 2, parameters)
        super().__init__(served=(model,))
        self._find_vectors = find
        self.model_directory = model_directory

    def answer(self, model: FakeModel, version: str, inputs: list[Ids]) -> Vectors:
        """The stored vector of each row; the first and last token are special ones."""
        ids, mask = inputs
        return self._find_vectors(
            [row[seen == 1][1:-1] for row, seen in zip(ids, mask, strict=True)]
        )


@contextmanager
def serving(triton: FakeTriton) -> Iterator[FakeTriton]:
    """The fake on an event loop of its own thread, for callers that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="triton", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(triton.start(), loop).result()
        yield triton
        asyncio.run_coroutine_threadsafe(triton.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class VectorsByTokens:
    """Vectors found by the tokens that the indexer or the gateway makes of a text."""

    def __init__(self, tokenizer: Path, vectors: Vectors) -> None:
        self._tokenizer = Tokenizer.load(tokenizer, "")
        self._vectors = vectors
        self._rows: dict[bytes, int] = {}

    def add(self, documents: Iterable[tuple[str, str]], first_row: int) -> None:
        """Makes documents known, given as title and text; the first has vector `first_row`.

        Every passage of a document has its vector.
        """
        pairs = list(documents)
        heads = [head_of("", title, text) for title, text in pairs]
        texts = [head + text for head, (_, text) in zip(heads, pairs, strict=True)]
        tokenised = self._tokenizer.encode_batch(texts)
        for row, (head, tokens) in enumerate(zip(heads, tokenised, strict=True), start=first_row):
            for passage in split(tokens, len(head.encode()), PASSAGING):
                self._rows[_key(passage.token_ids)] = row

    def find(self, texts: Sequence[Ids]) -> Vectors:
        """Vectors of texts; KeyError for one that was never added."""
        return self._vectors[[self._rows[_key(ids)] for ids in texts]]


def _key(ids: NDArray[np.int32] | Ids) -> bytes:
    return ids.astype(np.int32).tobytes()
