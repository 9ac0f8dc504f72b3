"""The lexical leg of one generation: Tantivy finds candidates, which are then scored exactly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core import bm25
from core.analysis import HASH_BITS, Phrase, Words, hash_of
from core.bm25 import Statistics
from core.errors import InvalidInput
from core.lexical import LexicalMatches, LexicalReader
from core.masks import EXACT, OVER_FETCH, Mask, Truth
from core.query_syntax import Constraint
from core.ranking import best_with_ties
from core.segment import Rows, Segment

Integer = TypeVar("Integer", np.int32, np.int64)

MAX_READ = 2_000
"""Documents whose texts may be read for a phrase where the index does not know places of words."""
# More candidates than wanted, so that most often the first search is enough: some since Tantivy
# knows lengths roughly, and so much of `limit` per share by which two mean lengths differ.
_SPARE = 24
_SPARE_PER_DIFFERENCE = 20
_TABLE = 4096
# So many documents are scored at a time if all are: their words are copied.
_SCORED_AT_A_TIME = 4096


class Matcher:
    """Segments and the lexical index of the same documents; safe to share between threads.

    A place is a document's row, counted on through the segments.
    """

    def __init__(self, segments: Sequence[Segment], reader: LexicalReader) -> None:
        self._segments = segments
        self._reader = reader
        words = [segment.words for segment in segments]
        # Where each place's words begin in those of its segment, and after its last where they end.
        self._words = [values for _, values in words]
        self._offsets = _joined([offsets for offsets, _ in words], np.int64)
        self._starts = np.array([0, *itertools.accumulate(len(s.lengths) for s in segments)])
        self._lengths = _joined([segment.lengths for segment in segments], np.int32)
        sequences = _joined([segment.sequences for segment in segments], np.int64)
        self._by_sequence = np.argsort(sequences, kind="stable").astype(np.int32)
        self._sequences = sequences[self._by_sequence]
        self._documents = sum(len(segment.live_rows) for segment in segments)
        self._length = sum(segment.live_length for segment in segments)

    def count(self, terms: Mapping[str, float]) -> Statistics:
        """What these documents, the live ones, say about a query's terms."""
        return Statistics(self._documents, self._length, self._reader.count(terms))

    def search(
        self,
        terms: Mapping[str, float],
        limit: int,
        statistics: Statistics,
        mask: Mask | None = None,
    ) -> tuple[list[int], list[float]]:
        """The live documents with the highest BM25 scores by `statistics`, best first.

        `terms` is a query, ascending; only documents of `mask` count. Returns places and scores of
        the best `limit` documents and of all that tie with the last. A document that Tantivy did
        not find has a score below: what Tantivy gave the last one bounds it (`bm25.overestimate`),
        and more are searched for until that bound is below the limit. Where that would mean more
        documents than the mask has, these are scored instead.
        """
        if not terms or not statistics.length:
            return [], []
        weights, mean = bm25.weights(terms, statistics), statistics.mean_length
        wanted = self._first_guess(limit, mean, mask)
        while True:
            if mask is not None and wanted >= mask.count:
                return self._score_all(np.flatnonzero(mask.places), weights, mean, limit)
            found = self._reader.search(weights, wanted)
            places = self._places(found.sequences)
            if mask is not None:
                places = places[mask.places[places]]
            scores = self._scores(places, weights, mean)
            if found.complete or _is_enough(found, scores, limit, mean, len(weights)):
                best = best_with_ties(scores, limit)
                return places[best].tolist(), scores[best].tolist()
            wanted *= 4

    def strategy(self, limit: int, mask: Mask) -> str:
        """How `search` begins with this mask: scoring all its documents, or searching for more."""
        mean = self._length / max(1, self._documents)
        return EXACT if self._first_guess(limit, mean, mask) >= mask.count else OVER_FETCH

    def satisfying(self, constraint: Constraint) -> Truth:
        """Which documents a constraint allows, by place; what has no words asks for nothing.

        Raises InvalidInput (OUT_OF_RANGE) if too many texts would have to be read for a phrase, in
        an index that an earlier format wrote.
        """
        required, excluded = map(self._phrases, (constraint.required, constraint.excluded))
        allowed: Truth = np.full(len(self._lengths), not required)
        if required:
            allowed[self._holding(required)] = True
        for phrase in excluded:
            allowed[self._holding([phrase])] = False
        return allowed

    def _phrases(self, texts: Sequence[str]) -> list[Phrase]:
        phrases = [self._reader.analyzer.phrase(text) for text in texts]
        return [phrase for phrase in phrases if phrase]

    def _holding(self, phrases: Sequence[Phrase]) -> Rows:
        """The places of the documents that hold every one of some phrases."""
        places = self._places(self._reader.holding(phrases))
        if self._reader.has_positions or all(len(phrase) == 1 for phrase in phrases):
            return places
        if len(places) > MAX_READ:
            raise InvalidInput(
                "OUT_OF_RANGE",
                f"{len(places):,} documents have the words of a phrase, and this index, written "
                f"by an earlier version, does not know where: {MAX_READ:,} can be read",
                field="query",
                remedy="ask for rarer words, or write the collection anew",
            )
        kept = [all(self._holds(place, each) for each in phrases) for place in places.tolist()]
        return places[np.array(kept, np.bool_)]

    def _holds(self, place: int, phrase: Phrase) -> bool:
        """Whether a document holds a phrase, by its text."""
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        document = self._segments[number].read(place - int(self._starts[number])).document
        return any(self._reader.analyzer.holds(t, phrase) for t in (document.title, document.text))

    def _first_guess(self, limit: int, mean: float, mask: Mask | None) -> int:
        """How many documents Tantivy is asked for at first."""
        wanted = limit + _SPARE
        if self._reader.mean_length:
            difference = abs(self._reader.mean_length / mean - 1)
            wanted += int(limit * min(1.0, difference * _SPARE_PER_DIFFERENCE))
        if mask is None:
            return wanted
        return wanted * self._documents // max(1, mask.count)

    def _places(self, sequences: NDArray[np.int64]) -> Rows:
        numbers = np.searchsorted(self._sequences, sequences)
        return self._by_sequence[numbers].astype(np.int64)

    def _scores(
        self, places: Rows, weights: Mapping[str, float], mean: float
    ) -> NDArray[np.float64]:
        frequencies = self._frequencies(places, list(weights))
        return bm25.scores([*weights.values()], frequencies, self._lengths[places], mean)

    def _score_all(
        self, places: Rows, weights: Mapping[str, float], mean: float, limit: int
    ) -> tuple[list[int], list[float]]:
        """Scores these documents; those without any of the terms are left out."""
        parts = np.split(places, range(_SCORED_AT_A_TIME, len(places), _SCORED_AT_A_TIME))
        scores = np.concatenate([self._scores(part, weights, mean) for part in parts])
        places, scores = places[scores > 0], scores[scores > 0]
        best = best_with_ties(scores, limit)
        return places[best].tolist(), scores[best].tolist()

    def _frequencies(self, places: Rows, terms: Sequence[str]) -> NDArray[np.float64]:
        """How often each document has each term: float64 [terms, documents]."""
        frequencies = np.zeros((len(terms), len(places)))
        if not len(places):
            return frequencies
        packed, ends = self._words_of(places)
        hashes = np.array([hash_of(term) for term in terms])
        likely = _with_low_bits_of(hashes, packed)
        packed = packed[likely]
        found = packed & ((1 << HASH_BITS) - 1)
        by_hash = np.argsort(hashes)
        at = by_hash[np.searchsorted(hashes, found, side="right", sorter=by_hash) - 1]
        hits = hashes[at] == found
        documents = np.searchsorted(ends, likely[hits], side="right")
        frequencies[at[hits], documents] = packed[hits] >> HASH_BITS
        return frequencies

    def _words_of(self, places: Rows) -> tuple[Words, Rows]:
        """The words of these documents, one after the other, and where each one's end."""
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        first, end = self._offsets[places + numbers], self._offsets[places + numbers + 1]

        parts = zip(numbers.tolist(), first.tolist(), end.tolist(), strict=True)
        words = np.concatenate([self._words[number][a:b] for number, a, b in parts])
        return words, np.cumsum(end - first)


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


def _joined(parts: Sequence[NDArray[Integer]], kind: type[Integer]) -> NDArray[Integer]:
    return np.concatenate([np.zeros(0, kind), *parts])
