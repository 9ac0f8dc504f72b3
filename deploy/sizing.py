"""How much memory and disk an index takes: pure arithmetic over what was measured.

Vectors by kind as in core/vectors/kinds.py. The rest was measured on Wikipedia, 110 words to a
passage (docs/decisions/0020): 3,000 bytes of documents, token ids and flat vectors of 384
components, and 272 bytes of lexical index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.vectors.kinds import KINDS, lists_for

TEXT_BYTES_PER_WORD = (3_000 - 4 * 384) / 110
LEXICAL_BYTES_PER_WORD = 272 / 110
GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is to be searched: passages of so many words, vectors of so many components."""

    passages: int
    dimension: int = 384
    words: int = 110
    shards: int = 1

    @property
    def text_bytes(self) -> float:
        """Documents, attributes and token ids, read for the hits of a page only."""
        return self.passages * self.words * TEXT_BYTES_PER_WORD

    @property
    def lexical_bytes(self) -> float:
        """The lexical index, positions of words included."""
        return self.passages * self.words * LEXICAL_BYTES_PER_WORD


@dataclass(frozen=True, slots=True)
class Need:
    """What a kind of vector index takes over all shards, once, in bytes."""

    kind: str
    precision: str
    vector_bytes: float
    corpus: Corpus

    @property
    def hot_bytes(self) -> float:
        """What searches read all the time, and what should be in memory."""
        return self.vector_bytes + self.corpus.lexical_bytes

    @property
    def disk_bytes(self) -> float:
        """What is published."""
        return self.hot_bytes + self.corpus.text_bytes


def needs(corpus: Corpus) -> Iterator[Need]:
    """Every kind and precision of a vector index, as if each shard were one sealed segment."""
    rows = corpus.passages // corpus.shards
    for kind in KINDS.values():
        middles = lists_for(rows) * 4 * corpus.dimension * corpus.shards if kind.has_lists else 0
        for precision in kind.precisions or ("",):
            codes = corpus.passages * kind.bytes_per_vector(corpus.dimension, precision)
            yield Need(kind.name, precision, codes + middles, corpus)
