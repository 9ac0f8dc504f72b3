"""Texts to padded (query, passage) pairs, for training and measuring outside Triton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer
from torch import Tensor

from deploy.training.first_stage import pad


class Pair(NamedTuple):
    """Token ids of one joined pair, and 0 for the query's, 1 for the passage's."""

    ids: list[int]
    segments: list[int]


class PairEncoder:
    """Joins a query with each passage; the longer of the two is cut to fit `max_tokens`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._tokenizer = tokenizer

    def encode(self, query: str, passages: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask, segments: INT64 [len(passages), longest]."""
        return self.stack(self.pairs(query, passages))

    def pairs(self, query: str, passages: Sequence[str]) -> list[Pair]:
        """The joined pairs, unpadded."""
        encodings = self._tokenizer.encode_batch([(query, passage) for passage in passages])
        return [Pair(encoding.ids, encoding.type_ids) for encoding in encodings]

    @staticmethod
    def stack(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask, segments: INT64 [len(pairs), longest]."""
        ids, mask = pad([pair.ids for pair in pairs])
        segments, _ = pad([pair.segments for pair in pairs])
        return ids, mask, segments
