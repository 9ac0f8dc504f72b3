"""Encoders by version, each checked against the one that the collection was made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.deadline import Deadline
from core.encoding import Encoder, SparseEncoder, SparseVector
from core.open_models import OpenModels
from core.tokens import Tokenizer
from core.triton import BULK_PRIORITY, ModelInfo, TritonClient


class TextEncoder(Protocol):
    """What the write path needs of an encoder."""

    info: ModelInfo
    tokenizer: Tokenizer

    def prompt_tokens(self, *, query: bool) -> int:
        """How many tokens the prompt before a query or a document has."""
        ...

    async def encode(
        self,
        token_ids: Sequence[NDArray[np.int32]],
        deadline: Deadline,
        *,
        priority: int = BULK_PRIORITY,
        prompt_tokens: int = 0,
    ) -> NDArray[np.float32]:
        """Embeds texts given as token ids: float32 [n, dimension]."""
        ...


class TermEncoder(Protocol):
    """What the write path needs of a sparse encoder."""

    info: ModelInfo
    tokenizer: Tokenizer

    async def encode(
        self,
        token_ids: Sequence[NDArray[np.int32]],
        deadline: Deadline,
        *,
        priority: int = BULK_PRIORITY,
    ) -> list[SparseVector]:
        """The weighted terms of texts given as token ids."""
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

    async def get_sparse(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TermEncoder:
        """A version of a sparse encoder ("": the newest); raises ModelMismatch likewise."""
        ...

    def forget(self, model: str, version: str) -> None:
        """Asks the service anew next time."""
        ...


class Encoders:
    """The encoders that Triton serves."""

    def __init__(self, triton: TritonClient, model_directory: Path) -> None:
        self._dense = OpenModels(Encoder, triton, model_directory)
        self._sparse = OpenModels(SparseEncoder, triton, model_directory)

    async def newest(self, model: str, deadline: Deadline) -> TextEncoder:
        """The newest version of a model at this moment; raises what OpenModels.get does."""
        self._dense.forget(model, "")
        return await self._dense.get(model, "", deadline)

    async def get(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TextEncoder:
        """A version of a model; raises ModelMismatch if it is not the one with that fingerprint."""
        return await self._dense.get(model, version, deadline, fingerprint=fingerprint)

    async def get_sparse(
        self, model: str, version: str, deadline: Deadline, *, fingerprint: str = ""
    ) -> TermEncoder:
        """A version of a sparse encoder, likewise; "" is the newest at this moment."""
        if not version:
            self._sparse.forget(model, "")
        return await self._sparse.get(model, version, deadline, fingerprint=fingerprint)

    def forget(self, model: str, version: str) -> None:
        """Asks Triton anew next time: after a failure it may serve something else."""
        self._dense.forget(model, version)
        self._sparse.forget(model, version)
