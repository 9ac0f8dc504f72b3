"""Vectors in clusters, made block by block from their numbers: no file holds them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tokens import Tokenizer

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

DIMENSION = 384
BLOCK = 8192
_CLUSTERS = 1000
# How far a vector lies from its centre, whose length is 1: neighbours then have a cosine of 2/3.
_SPREAD = 0.7
_WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "juniper",
    "kelp",
    "larch",
]


def vectors_of(numbers: Sequence[int]) -> Vectors:
    """Vectors of length 1, float32 [n, DIMENSION]; the same for a number whenever it is asked."""
    return np.stack([block(number // BLOCK)[number % BLOCK] for number in numbers])


@lru_cache(maxsize=8)
def block(number: int) -> Vectors:
    """BLOCK vectors, of the numbers from `number` * BLOCK on: float32 [BLOCK, DIMENSION]."""
    chance = np.random.default_rng([7, number])
    found = chance.standard_normal((BLOCK, DIMENSION), dtype=np.float32)
    found *= np.float32(_SPREAD / DIMENSION**0.5)
    found += _centres()[chance.integers(0, _CLUSTERS, BLOCK)]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


@lru_cache(maxsize=1)
def _centres() -> Vectors:
    centres = np.random.default_rng(7).standard_normal((_CLUSTERS, DIMENSION), dtype=np.float32)
    normalised: Vectors = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return normalised


def text_of(number: int) -> str:
    """A short text that begins with its number; its words are shared by many."""
    words = [_WORDS[number // 12**place % 12] for place in range(4)]
    return f"{number:09d} {' '.join(words)}"


def nearest(queries: Vectors, count: int, top: int) -> list[set[int]]:
    """Numbers below `count` of the `top` vectors most similar to each query, found exactly."""
    scores = np.full((len(queries), top), -np.inf, np.float32)
    numbers = np.zeros((len(queries), top), np.int64)
    for first, part in _blocks(count):
        both = np.concatenate([scores, queries @ part.T], axis=1)
        own = np.broadcast_to(np.arange(first, first + len(part)), (len(queries), len(part)))
        best = np.argpartition(-both, top, axis=1)[:, :top]
        scores = np.take_along_axis(both, best, axis=1)
        numbers = np.take_along_axis(np.concatenate([numbers, own], axis=1), best, axis=1)
    return [set(row) for row in numbers.tolist()]


def _blocks(count: int) -> Iterator[tuple[int, Vectors]]:
    for first in range(0, count, BLOCK):
        yield first, block(first // BLOCK)[: count - first]


class VectorsByNumber:
    """Finds the vector of a text by the number with which it begins, in its tokens."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.load(tokenizer, "")

    def find(self, texts: Sequence[Ids]) -> Vectors:
        """Vectors of texts made by `text_of`."""
        return vectors_of([self._number(ids) for ids in texts])

    def _number(self, ids: Ids) -> int:
        digits = ""
        for piece in self._tokenizer.spell(ids[:9].tolist()):
            if digits and not piece.startswith("##"):
                break
            digits += piece.removeprefix("##")
        return int(digits)
