"""The lexical leg of one generation: Tantivy finds candidates, which are then scored exactly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core import bm25
from core.analysis import HASH_BITS, Words, hash_of
from core.bm25 import Statistics
from core.lexical import LexicalMatches, LexicalReader
from core.ranking import best_with_ties
from core.segment import Rows, Segment

# More candidates than wanted, so that most often the first search is enough: some since Tantivy
# knows lengths roughly, and so much of `limit` per share by which two mean lengths differ.
_SPARE = 24
_SPARE_PER_DIFFERENCE = 20
_TABLE = 4096


class Matcher:
    """Segments and the lexical index of the same documents; safe to share between threads.

    A place is a document's row, counted on through the segments.
    """

    def __init__(self, segments: Sequence[Segment], reader: LexicalReader) -> None:
        self._reader = reader
        words = [segment.words for segment in segments]
        # Where each place's words lie in those of its segment.
        self._words = [values for _, values in words]
        self._first = _joined([offsets[:-1] for offsets, _ in words])
        self._end = _joined([offsets[1:] for offsets, _ in words])
        self._starts = np.array([0, *itertools.accumulate(len(s.ids) for s in segments)])
        self._lengths = _joined([segment.lengths for segment in segments])
        sequences = _joined([segment.sequences for segment in segments])
        self._by_sequence = np.argsort(sequences, kind="stable")
        self._sequences = sequences[self._by_sequence]
        self._documents = sum(len(segment.live_rows) for segment in segments)
        self._length = sum(segment.live_length for segment in segments)

    def count(self, terms: Mapping[str, float]) -> Statistics:
        """What these documents, the live ones, say about a query's terms."""
        return Statistics(self._documents, self._length, self._reader.count(terms))

    def search(
        self, terms: Mapping[str, float], limit: int, statistics: Statistics
    ) -> tuple[list[int], list[float]]:
        """The live documents with the highest BM25 scores by `statistics`, best first.

        `terms` is a query, ascending. Returns places and scores of the best `limit` documents and
        of all that tie with the last. A document that Tantivy did not find has a score below: what
        Tantivy gave the last one bounds it (`bm25.overestimate`), and more are searched for until
        that bound is below the limit.
        """
        if not terms or not statistics.length:
            return [], []
        weights = bm25.weights(terms, statistics)
        mean, wanted = statistics.mean_length, limit + _SPARE
        if self._reader.mean_length:
            difference = abs(self._reader.mean_length / mean - 1)
            wanted += int(limit * min(1.0, difference * _SPARE_PER_DIFFERENCE))
        while True:
            found = self._reader.search(weights, wanted)
            places = self._by_sequence[np.searchsorted(self._sequences, found.sequences)]
            frequencies = self._frequencies(places, list(weights))
            scores = bm25.scores([*weights.values()], frequencies, self._lengths[places], mean)
            if found.complete or _is_enough(found, scores, limit, mean, len(weights)):
                best = best_with_ties(scores, limit)
                return places[best].tolist(), scores[best].tolist()
            wanted *= 4

    def _frequencies(self, places: Rows, terms: Sequence[str]) -> NDArray[np.float64]:
        """How often each document has each term: float64 [terms, documents]."""
        frequencies = np.zeros((len(terms), len(places)))
        if not len(places):
            return frequencies
        numbers = (np.searchsorted(self._starts, places, side="right") - 1).tolist()
        first, end = self._first[places], self._end[places]
        parts = zip(numbers, first.tolist(), end.tolist(), strict=True)
        packed = np.concatenate([self._words[number][a:b] for number, a, b in parts])
        hashes = np.array([hash_of(term) for term in terms])
        likely = _with_low_bits_of(hashes, packed)
        packed = packed[likely]
        found = packed & ((1 << HASH_BITS) - 1)
        by_hash = np.argsort(hashes)
        at = by_hash[np.searchsorted(hashes, found, side="right", sorter=by_hash) - 1]
        hits = hashes[at] == found
        documents = np.searchsorted(np.cumsum(end - first), likely[hits], side="right")
        frequencies[at[hits], documents] = packed[hits] >> HASH_BITS
        return frequencies


def _with_low_bits_of(hashes: NDArray[np.int64], packed: Words) -> Rows:
    """Which of many words share the low bits of one of a few hashes: a quick first look."""
    table = np.zeros(_TABLE, np.bool_)
    table[hashes % _TABLE] = True
    return np.flatnonzero(table.take(packed & (_TABLE - 1)))


def _is_enough(
    found: LexicalMatches, scores: NDArray[np.float64], limit: int, mean: float, terms: int
) -> bool:
    """Whether no other document can have as high a score as number `limit`."""
    if len(scores) < limit:
        return False
    factor = bm25.overestimate(mean, found.mean_length, terms)
    least = float(np.partition(scores, -limit)[-limit])
    return least > found.lowest * factor + found.unscored


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts])
