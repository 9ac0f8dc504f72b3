"""Turns a query into a vector, with the very encoder version the collection was built with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import Encoder
from core.errors import InvalidInput, ModelMismatch
from core.triton import TritonClient
from gateway.query import ModelUsed

QUERY_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query's embedding, float32 [dimension], and how long Triton took, in microseconds."""

    vector: NDArray[np.float32]
    triton_microseconds: int


class QueryEncoder:
    """Encoders by model and version, opened at their first use and kept."""

    def __init__(self, triton: TritonClient, model_directory: Path) -> None:
        self._triton = triton
        self._model_directory = model_directory
        self._encoders: dict[tuple[str, str], Encoder] = {}
        self._opening = asyncio.Lock()

    async def encode(self, text: str, model: ModelUsed, deadline: Deadline) -> EncodedQuery:
        """The embedding of a query.

        Raises InvalidInput if it has no tokens or more than the encoder reads, ModelMismatch if
        Triton serves other weights than the collection was built with, TritonUnavailable or
        OutOfTime.
        """
        encoder = await self.open(model, deadline)
        tokens = encoder.tokenizer.encode(encoder.info.query_prompt + text)
        limit = encoder.info.max_length - encoder.tokenizer.single.count
        if len(tokens.ids) > limit:
            raise InvalidInput(
                "TOO_LONG",
                f"has {len(tokens.ids)} tokens, the encoder reads {limit}",
                field="query",
                remedy="shorten it, or search with mode LEXICAL",
            )
        if len(tokens.ids) == 0:
            raise InvalidInput(
                "FIELD_REQUIRED",
                "holds nothing that the encoder can read",
                field="query",
                remedy="use letters or digits",
            )
        started = time.perf_counter_ns()
        vectors = await encoder.encode([tokens.ids], deadline, priority=QUERY_PRIORITY)
        return EncodedQuery(vectors[0], (time.perf_counter_ns() - started) // 1000)

    async def open(self, model: ModelUsed, deadline: Deadline) -> Encoder:
        """The encoder of that name and version, checked against the fingerprint if one is given."""
        key = (model.model, model.version)
        encoder = self._encoders.get(key)
        if encoder is None:
            async with self._opening:
                encoder = self._encoders.get(key) or await Encoder.create(
                    self._triton, model.model, model.version, self._model_directory, deadline
                )
                self._encoders[key] = encoder
        if model.fingerprint not in ("", encoder.info.fingerprint):
            del self._encoders[key]
            raise ModelMismatch(
                f"Triton's {model.model} version {model.version} has fingerprint "
                f"{encoder.info.fingerprint[:12]}, the collection was built with "
                f"{model.fingerprint[:12]}",
                remedy="serve the version that the collection was built with",
            )
        return encoder
