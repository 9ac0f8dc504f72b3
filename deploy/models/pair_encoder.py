"""Texts to padded (query, passage) pairs, for training and measuring outside Triton."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from torch import Tensor

from deploy.models.first_stage import pad


class PairEncoder:
    """Joins a query with each passage; the longer of the two is cut to fit `max_tokens`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._tokenizer = tokenizer

    def encode(self, query: str, passages: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask, segments: INT64 [len(passages), longest]."""
        pairs = self._tokenizer.encode_batch([(query, passage) for passage in passages])
        ids, mask = pad([pair.ids for pair in pairs])
        segments, _ = pad([pair.type_ids for pair in pairs])
        return ids, mask, segments
