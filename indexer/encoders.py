"""Encoders by version, each checked against the one that the collection was made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import Encoder
from core.errors import ModelMismatch
from core.tokens import Tokenizer
from core.triton import ModelInfo, TritonClient


class TextEncoder(Protocol):
    """What the write path needs of an encoder."""

    info: ModelInfo
    tokenizer: Tokenizer

    async def encode(
        self, token_ids: Sequence[NDArray[np.int32]], deadline: Deadline, *, priority: int = 2
    ) -> NDArray[np.float32]:
        """Embeds texts given as token ids: float32 [n, dimension]."""
        ...


class EncoderSource(Protocol):
    """Where encoders come from."""

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        """The newest version of a model."""
        ...

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        """A version of a model; raises ModelMismatch if it has another fingerprint."""
        ...

    def forget(self, model: str, version: str) -> None:
        """Asks the service anew next time."""
        ...


class Encoders:
    """The encoders that Triton serves."""

    def __init__(self, triton: TritonClient, model_directory: Path) -> None:
        self._triton = triton
        self._model_directory = model_directory
        self._known: dict[tuple[str, str], TextEncoder] = {}

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        """The newest version of a model; raises what Encoder.create does."""
        return await Encoder.create(self._triton, model, "", self._model_directory, deadline)

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        """A version of a model; raises ModelMismatch if it is not the one with that fingerprint."""
        encoder = self._known.get((model, version))
        if encoder is None:
            encoder = await Encoder.create(
                self._triton, model, version, self._model_directory, deadline
            )
            self._known[model, version] = encoder
        if fingerprint and encoder.info.fingerprint != fingerprint:
            del self._known[model, version]
            raise ModelMismatch(
                f"Triton serves {model}:{version} with fingerprint"
                f" {encoder.info.fingerprint[:12]}, the collection was made with"
                f" {fingerprint[:12]}",
                field=model,
                remedy="serve the model the collection was made with",
            )
        return encoder

    def forget(self, model: str, version: str) -> None:
        """Asks Triton anew next time: after a failure it may serve something else."""
        self._known.pop((model, version), None)
