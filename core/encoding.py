"""Texts' token ids to vectors, and query-passage pairs to scores, through Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from core.batching import (
    BULK_TOKENS_PER_REQUEST,
    REQUESTS_AT_ONCE,
    TOKENS_PER_REQUEST,
    Batch,
    Piece,
    plan_pieces,
    send_all,
    tokens_per_request,
)
from core.deadline import Deadline
from core.errors import BadModelOutput, ModelMismatch
from core.security.caller import current_caller
from core.tokens import Tokenizer
from core.triton import BULK_PRIORITY, QUERY_PRIORITY, ModelInfo, TritonClient

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """The heaviest terms of a text, descending by weight.

    `ids` are token ids, int32 [terms], each once; `weights` are above 0, float32 [terms].
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)


class ServedModel:
    """What every kind of model shares: a served model and its tokenizer."""

    kind = ""

    def __init__(self, triton: TritonClient, info: ModelInfo, tokenizer: Tokenizer) -> None:
        self._triton = triton
        self.info = info
        self.tokenizer = tokenizer

    @classmethod
    async def create(
        cls,
        triton: TritonClient,
        model: str,
        version: str,
        model_directory: Path,
        deadline: Deadline,
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
        return cls(triton, info, tokenizer)

    def _plan(self, lengths: Sequence[int], priority: int) -> list[Piece]:
        most = BULK_TOKENS_PER_REQUEST if priority == BULK_PRIORITY else TOKENS_PER_REQUEST
        return plan_pieces(
            lengths,
            max_length=self.info.max_length,
            max_rows=max(1, self.info.max_batch_size),
            max_tokens=tokens_per_request(lengths, most),
            padding_is_free=self.info.skips_padding,
        )

    async def _infer(self, batch: Batch, deadline: Deadline, priority: int) -> Floats:
        """Runs the model over the inputs that it takes: float32 [n, info.width]."""
        info = self.info
        if (meter := current_caller().meter).counts_tokens:
            meter.model_tokens(int(batch.mask.sum()))
        tensors = batch.tensors(info.inputs)
        output = await self._triton.infer(
            info.name, info.version, tensors, deadline, priority=priority
        )
        if output.size != len(output) * info.width:
            raise BadModelOutput(
                f"model {info.name} returned shape {list(output.shape)}, not [n, {info.width}]"
            )
        return output.reshape(-1, info.width)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.name}:{self.info.version}>"


class _TextModel(ServedModel):
    """A model that reads one text at a time."""

    async def _run(
        self, token_ids: Sequence[Ids], deadline: Deadline, priority: int, prompt_tokens: int
    ) -> Floats:
        """Each text's output: float32 [n, info.width]."""
        template = self.tokenizer.single
        room = self.info.max_length - template.count
        before, after = len(template.before), len(template.after)
        texts = [ids[:room] for ids in token_ids]
        outputs = np.empty((len(texts), self.info.width), dtype=np.float32)

        async def send(piece: Piece) -> None:
            batch = Batch(piece, self.tokenizer.pad_id)
            batch.ids[:, :before] = template.before
            for row, number in enumerate(piece.rows):
                end = before + len(texts[number])
                batch.ids[row, before:end] = texts[number]
                batch.ids[row, end : end + after] = template.after
                batch.mask[row, : end + after] = 1
            batch.pooling_mask[:] = batch.mask
            if prompt_tokens:
                batch.pooling_mask[:, : before + prompt_tokens] = 0
            outputs[list(piece.rows)] = await self._infer(batch, deadline, priority)

        pieces = self._plan([len(text) + template.count for text in texts], priority)
        await send_all(pieces, send, at_once=REQUESTS_AT_ONCE)
        return outputs

    def prompt_tokens(self, *, query: bool) -> int:
        """How many tokens the prompt before a query or a document has, without special tokens."""
        return self._query_prompt if query else self._document_prompt

    @cached_property
    def _query_prompt(self) -> int:
        return len(self.tokenizer.encode(self.info.query_prompt))

    @cached_property
    def _document_prompt(self) -> int:
        return len(self.tokenizer.encode(self.info.document_prompt))


class Encoder(_TextModel):
    """A bi-encoder: text to vector."""

    kind = "bi_encoder"

    async def encode(
        self,
        token_ids: Sequence[Ids],
        deadline: Deadline,
        *,
        priority: int = BULK_PRIORITY,
        prompt_tokens: int = 0,
    ) -> Floats:
        """Embeds texts given as token ids without special tokens: float32 [n, dimension].

        A text longer than `info.max_length` with its special tokens is cut there. The first
        `prompt_tokens` of each text are its prompt, see `prompt_tokens`; they matter to models that
        leave the prompt out of pooling. Raises what TritonClient.infer does.
        """
        return await self._run(token_ids, deadline, priority, prompt_tokens)


class SparseEncoder(_TextModel):
    """A learned sparse encoder (SPLADE): text to weighted terms of its vocabulary."""

    kind = "sparse_encoder"

    async def encode(
        self, token_ids: Sequence[Ids], deadline: Deadline, *, priority: int = BULK_PRIORITY
    ) -> list[SparseVector]:
        """The heaviest terms, at most `info.top_terms`, of each text without special tokens.

        Long texts are cut as Encoder.encode does. Raises what TritonClient.infer does, and
        BadModelOutput for terms outside of the vocabulary.
        """
        outputs = await self._run(token_ids, deadline, priority, 0)
        return [self._sparse(row) for row in outputs]

    def _sparse(self, row: Floats) -> SparseVector:
        """One output row: the ids of `top_terms` terms as numbers, then their weights."""
        terms = self.info.top_terms
        present = row[terms:] > 0
        ids, weights = row[:terms][present], row[terms:][present]
        if not ((ids >= 0) & (ids < self.info.dimension) & (ids == np.floor(ids))).all():
            raise BadModelOutput(f"model {self.info.name} named a term outside of its vocabulary")
        order = np.argsort(-weights, kind="stable")
        return SparseVector(ids[order].astype(np.int32), weights[order])


class CrossEncoder(ServedModel):
    """A cross-encoder: query and passage to one logit per label."""

    kind = "cross_encoder"

    async def score(
        self,
        query_ids: Ids,
        passages: Sequence[Ids],
        deadline: Deadline,
        *,
        priority: int = QUERY_PRIORITY,
        max_length: int = 0,
    ) -> Floats:
        """The logit of relevance of each passage: float32 [n]; see `logits`.

        Raises ModelMismatch if the model has several labels and none is said to rank.
        """
        column = relevance_column(self.info)
        found = await self.logits(
            query_ids, passages, deadline, priority=priority, max_length=max_length
        )
        return found[:, column]

    async def logits(
        self,
        query_ids: Ids,
        passages: Sequence[Ids],
        deadline: Deadline,
        *,
        priority: int = QUERY_PRIORITY,
        max_length: int = 0,
    ) -> Floats:
        """Judges passages by a query, all token ids without special tokens: float32 [n, labels].

        The query is cut to half of `max_length` tokens (0: `info.max_length`), a passage to what
        then is left. Raises what TritonClient.infer does.
        """
        longest = min(max_length or self.info.max_length, self.info.max_length)
        template = self.tokenizer.pair
        query = query_ids[: (longest - template.count) // 2]
        head = np.concatenate([template.before, query, template.between])
        after = len(template.after)
        room = longest - len(head) - after
        texts = [ids[:room] for ids in passages]
        outputs = np.empty((len(texts), self.info.width), dtype=np.float32)

        async def send(piece: Piece) -> None:
            batch = Batch(piece, self.tokenizer.pad_id)
            batch.ids[:, : len(head)] = head
            batch.types[:, : len(head)] = template.types[0]
            for row, number in enumerate(piece.rows):
                end = len(head) + len(texts[number])
                batch.ids[row, len(head) : end] = texts[number]
                batch.ids[row, end : end + after] = template.after
                batch.mask[row, : end + after] = 1
                batch.types[row, len(head) : end + after] = template.types[1]
            outputs[list(piece.rows)] = await self._infer(batch, deadline, priority)

        pieces = self._plan([len(head) + len(text) + after for text in texts], priority)
        await send_all(pieces, send, at_once=REQUESTS_AT_ONCE)
        return outputs


def relevance_column(info: ModelInfo) -> int:
    """Which label of a cross-encoder ranks; raises ModelMismatch if that is not known."""
    if info.relevance_label:
        return info.labels.index(info.relevance_label)
    if info.dimension == 1:
        return 0
    raise ModelMismatch(
        f"has {info.dimension} labels and none is said to rank",
        field=info.name,
        remedy="export it with a relevance label, or ask for the scores of its labels",
    )


def activate(logits: Floats, activation: str) -> Floats:
    """Logits [n, labels] to what the model's library returns by default, of the same shape."""
    if activation == "sigmoid":
        # Both branches without an overflow.
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    if activation == "softmax":
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)
    return logits
