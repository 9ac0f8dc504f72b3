"""Turns a query into a vector, with the very encoder version the collection was built with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import Encoder, SparseEncoder, SparseVector
from core.errors import BadModelOutput, InvalidInput, NotFound, TriremeError
from core.open_models import OpenModels
from core.similarity import fit
from core.triton import QUERY_PRIORITY
from gateway.embedding_cache import EmbeddingCache, Key
from gateway.query import ModelUsed
from gateway.together import Together

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query's embedding, float32 [dimension], read-only.

    `triton_microseconds` is how long Triton took, requests before this one included; 0 if the
    vector was `cached`.
    """

    vector: NDArray[np.float32]
    triton_microseconds: int
    cached: bool = False


@dataclass(frozen=True, slots=True)
class EncodedTerms:
    """A query's weighted terms; otherwise as EncodedQuery."""

    terms: SparseVector
    triton_microseconds: int
    cached: bool = False


class QueryEncoder:
    """Encoders by model and version, opened at their first use and kept."""

    def __init__(
        self,
        dense: OpenModels[Encoder],
        sparse: OpenModels[SparseEncoder],
        cache: EmbeddingCache,
    ) -> None:
        self._dense = dense
        self._sparse = sparse
        self._cache = cache
        self._together: dict[tuple[str, str], tuple[Encoder | SparseEncoder, Together[Any]]] = {}

    async def encode(
        self, text: str, model: ModelUsed, deadline: Deadline, *, dimension: int = 0
    ) -> EncodedQuery:
        """The embedding of a query, cut to the first `dimension` components (0: whole).

        Raises InvalidInput if it has no tokens or more than the encoder reads, ModelMismatch if
        Triton serves other weights than the collection was built with, TritonUnavailable or
        OutOfTime.
        """
        encoder = await self.open(model, deadline)
        microseconds = 0

        async def compute() -> NDArray[np.float32]:
            nonlocal microseconds
            ids = _query_ids(encoder, text)
            prompt = encoder.prompt_tokens(query=True)
            started = time.perf_counter_ns()
            together = self._queries_of(encoder, prompt_tokens=prompt)
            vector: NDArray[np.float32] = await together.encode(ids, deadline)
            microseconds = (time.perf_counter_ns() - started) // 1000
            return vector

        key = Key.of(encoder.info, text, query=True)
        try:
            vector, origin = await self._cache.fetch(key, compute, deadline)
        except (NotFound, BadModelOutput):
            self._dense.forget(model.model, model.version)
            raise
        info = encoder.info
        # Cut after the cache, so that collections of several dimensions share it.
        (vector,) = fit(
            vector[None],
            dimension or info.dimension,
            info.similarity,
            normalized=info.normalize,
        )
        return EncodedQuery(vector, microseconds, cached=origin != "miss")

    async def encode_sparse(self, text: str, model: ModelUsed, deadline: Deadline) -> EncodedTerms:
        """The weighted terms of a query; raises what `encode` does."""
        encoder = await self.open_sparse(model, deadline)
        microseconds = 0

        async def compute() -> NDArray[np.float32]:
            nonlocal microseconds
            ids = _query_ids(encoder, text)
            started = time.perf_counter_ns()
            terms: SparseVector = await self._queries_of(encoder).encode(ids, deadline)
            microseconds = (time.perf_counter_ns() - started) // 1000
            # Ids below 2^24 are exact in float32.
            return np.stack([terms.ids.astype(np.float32), terms.weights])

        key = Key.of(encoder.info, text, query=True)
        try:
            packed, origin = await self._cache.fetch(key, compute, deadline)
        except (NotFound, BadModelOutput):
            self._sparse.forget(model.model, model.version)
            raise
        terms = SparseVector(packed[0].astype(np.int32), packed[1])
        return EncodedTerms(terms, microseconds, cached=origin != "miss")

    async def stored_tokens(self, model: ModelUsed, deadline: Deadline) -> str:
        """The digest of the tokenizer that made a collection's stored passages.

        Empty if they hold a prompt too, or if Triton does not tell.
        """
        try:
            encoder = await self.open(model, deadline)
        except TriremeError:
            return ""
        return "" if encoder.info.document_prompt else encoder.tokenizer.sha256

    async def open(self, model: ModelUsed, deadline: Deadline) -> Encoder:
        """The encoder of that name and version, checked against the fingerprint if one is given."""
        return await self._dense.get(
            model.model, model.version, deadline, fingerprint=model.fingerprint
        )

    async def open_sparse(self, model: ModelUsed, deadline: Deadline) -> SparseEncoder:
        """The sparse encoder of that name and version, checked alike."""
        return await self._sparse.get(
            model.model, model.version, deadline, fingerprint=model.fingerprint
        )

    def _queries_of(self, encoder: Encoder | SparseEncoder, **options: int) -> Together[Any]:
        """What brings an encoder's queries together; another one if it was opened again.

        `options` are more of what its `encode` takes, always the same for one encoder.
        """
        key = encoder.info.name, encoder.info.version
        known = self._together.get(key)
        if known is None or known[0] is not encoder:
            method: Any = encoder.encode
            encode = partial(method, priority=QUERY_PRIORITY, **options)
            known = encoder, Together(encode, special_tokens=encoder.tokenizer.single.count)
            self._together[key] = known
        return known[1]


def _query_ids(encoder: Encoder | SparseEncoder, text: str) -> Ids:
    """The query's token ids with its prompt; raises InvalidInput."""
    prompt = encoder.info.query_prompt
    tokens = encoder.tokenizer.encode(prompt + text)
    limit = encoder.info.max_length - encoder.tokenizer.single.count
    if len(tokens) > limit:
        raise InvalidInput(
            "TOO_LONG",
            f"has {len(tokens)} tokens, the encoder reads {limit}",
            field="query",
            remedy="shorten it, or search with mode LEXICAL",
        )
    # Bytes, since the last token of a prompt and the first of a text may be one.
    if len(tokens) == 0 or tokens.ends[-1] <= len(prompt.encode()):
        raise InvalidInput(
            "FIELD_REQUIRED",
            "holds nothing that the encoder can read",
            field="query",
            remedy="use letters or digits",
        )
    return tokens.ids
