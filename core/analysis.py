"""What counts as a word: texts and queries become the terms of the lexical leg.

A text is split at whatever is no letter or digit; words are brought to lower case and to their
stems, and folded to ASCII where the language allows it (`languages`). Chinese, Japanese and Korean
are not split by blanks: a run of their characters gives every character and every pair of
neighbours. A query is analysed like a text, so it is never parsed and cannot be a syntax error. Its
stop words are left out unless it has nothing else; a term that it repeats counts by BM25's k3.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache

import numpy as np
import tantivy
from numpy.typing import NDArray

from core import cjk
from core.languages import CJK, DEFAULT_LANGUAGE, ENGLISH, LANGUAGES, LexicalSettings

Words = NDArray[np.int64]
"""Distinct words of a text: 20 bits of how often each occurs above 43 bits of its hash."""

Token = tantivy.Token | cjk.Token
"""A term with its place in the text, in words and in characters."""

Phrase = tuple[tuple[int, str], ...]
"""Terms that stand next to each other, each with its place among them, from 0."""

HASH_BITS = 43
_KEPT_HASHES = 1 << 16
# In bytes of UTF-8. English has kept its own since the first format.
_LONGEST_TERM = 120
_LONGEST_ENGLISH_TERM = 40

# Okapi's saturation of a query's own term frequencies (Robertson et al., TREC-3): long queries
# repeat what they are about.
_K3 = 8.0
# Lucene's English stop words; their stems are themselves.
_ENGLISH_STOP_TEXT = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there
    these they this to was will with
"""
_ENGLISH_STOP_WORDS = frozenset(_ENGLISH_STOP_TEXT.split())
_WORDS_WITH_MARKS = r"[\p{L}\p{M}\p{N}]+"


class Analyzer:
    """The analysis of one collection, by its settings: used alike on both sides of the index.

    `name` is what Tantivy knows it by.
    """

    def __init__(self, settings: LexicalSettings) -> None:
        self.name = f"trireme_{settings.language}"
        self._title_count = 1 + settings.title_boost
        self._cases = LANGUAGES[settings.language].cases
        self._words = word_analyzer(settings.language)
        self._without_stop_words = word_analyzer(settings.language, for_queries=True)

    @property
    def tantivy_analyzer(self) -> tantivy.TextAnalyzer:
        """What Tantivy splits values of its field with, if they are plain strings."""
        return self._words

    def values(self, title: str, text: str) -> Sequence[str | tantivy.PreTokenizedString]:
        """What Tantivy indexes of a document, value by value; no phrase runs from one to the next.

        The title comes once more for each step of its boost: BM25 over weighted fields (Robertson,
        Zaragoza and Taylor, "Simple BM25 extension to multiple weighted fields", 2004).
        """
        return [self._cased(title)] * self._title_count + [self._cased(text)]

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order and as often as they occur."""
        found: list[str] = self._words.analyze(self._cased(text))
        return found

    def tokens(self, text: str) -> Sequence[Token]:
        """The same with the place of each in the text, in characters and in words."""
        return self._words.pre_tokenize(self._cased(text)).tokens

    def phrase(self, text: str) -> Phrase:
        """The terms that a text asks for next to each other, each with its place among them.

        Stop words count here; none if the text has no words.
        """
        tokens = self._asked(text)
        return tuple((token.position - tokens[0].position, token.text) for token in tokens)

    def holds(self, text: str, phrase: Phrase) -> bool:
        """Whether a text has a phrase's terms next to each other."""
        there = {(token.position, token.text) for token in self.tokens(text)}
        starts = [position for position, term in there if term == phrase[0][1]]
        return any(all((at + place, term) in there for place, term in phrase) for at in starts)

    def query_terms(self, text: str) -> dict[str, float]:
        """A query's distinct terms, ascending, each with the weight that its repetition gives it.

        Once is 1, n times are (k3 + 1) * n / (k3 + n).
        """
        counts = Counter(self._query(text))
        return {term: (_K3 + 1) * n / (_K3 + n) for term, n in sorted(counts.items())}

    def words_of(self, title: str, text: str) -> tuple[Words, int]:
        """A document's words, and its length: how many there are, each counted as often as it is.

        Texts are too short (`core.documents`) for a count to overflow.
        """
        terms = self.terms(title) * self._title_count + self.terms(text)
        packed = [n << HASH_BITS | hash_of(term) for term, n in Counter(terms).items()]
        return np.array(packed, np.int64), len(terms)

    def marks_of(self, text: str, terms: Collection[str]) -> list[int]:
        """Where a text holds any of the terms: first byte and one past the last, in turn."""
        found: list[int] = []
        characters = size = 0
        for first, end in self._spans(text, terms):
            start = size + len(text[characters:first].encode())
            characters, size = end, start + len(text[first:end].encode())
            found += [start, size]
        return found

    def _asked(self, text: str) -> Sequence[Token]:
        """The tokens of a query."""
        return self.tokens(text)

    def _query(self, text: str) -> list[str]:
        """The terms of a query in order, without its stop words unless it has nothing else."""
        telling: list[str] = self._without_stop_words.analyze(self._cased(text))
        return telling or self.terms(text)

    def _cased(self, text: str) -> str:
        """The text, its letters replaced one by one where the language has its own cases."""
        return text.translate(self._cases) if self._cases else text

    def _spans(self, text: str, terms: Collection[str]) -> Iterator[tuple[int, int]]:
        """The same in characters."""
        for token in self.tokens(text):
            if token.text in terms:
                yield token.char_offset_from, token.char_offset_to


class EnglishAnalyzer(Analyzer):
    """English as every format has had it: stop words are told by their stems."""

    def _query(self, text: str) -> list[str]:
        terms = self.terms(text)
        return [term for term in terms if term not in _ENGLISH_STOP_WORDS] or terms


class CjkAnalyzer(Analyzer):
    """Chinese, Japanese and Korean by n-grams (`cjk`), all between them by words."""

    def values(self, title: str, text: str) -> Sequence[str | tantivy.PreTokenizedString]:
        parts = [title] * self._title_count + [text]
        return [
            tantivy.PreTokenizedString(part, [tantivy.Token(*each) for each in self._grams(part)])
            for part in parts
        ]

    def terms(self, text: str) -> list[str]:
        return [token.text for token in self.tokens(text)]

    def tokens(self, text: str) -> Sequence[Token]:
        return self._grams(text)

    def _grams(self, text: str) -> list[cjk.Token]:
        return cjk.tokens_of(text, self._words)

    def _asked(self, text: str) -> Sequence[Token]:
        return cjk.tokens_of(text, self._words, for_queries=True)

    def _query(self, text: str) -> list[str]:
        terms = [token.text for token in self._asked(text)]
        return [term for term in terms if term not in _ENGLISH_STOP_WORDS] or terms

    def _spans(self, text: str, terms: Collection[str]) -> Iterator[tuple[int, int]]:
        """Pairs overlap: what they cover together is one span."""
        first = end = 0
        for start, stop in super()._spans(text, terms):
            if start >= end:
                if end:
                    yield first, end
                first = start
            end = max(end, stop)
        if end:
            yield first, end


@cache
def analyzer_of(settings: LexicalSettings = ENGLISH) -> Analyzer:
    """The analyser of a collection with these settings; safe to share between threads."""
    kinds = {DEFAULT_LANGUAGE: EnglishAnalyzer, CJK: CjkAnalyzer}
    return kinds.get(settings.language, Analyzer)(settings)


def word_analyzer(language: str, *, for_queries: bool = False) -> tantivy.TextAnalyzer:
    """Tantivy's analyser for words of a language; `for_queries` without its stop words."""
    own = LANGUAGES[language]
    is_english = language == DEFAULT_LANGUAGE
    fold = [tantivy.Filter.ascii_fold()] if own.is_folded else []
    stem = [tantivy.Filter.stemmer(own.stemmer)] if own.stemmer else []
    stop = [tantivy.Filter.stopword(own.stemmer)] if for_queries and own.has_stop_words else []
    longest = _LONGEST_ENGLISH_TERM if is_english else _LONGEST_TERM
    # English has no accents to stem by; the stemmers of other languages need theirs.
    last = [*fold, *stem] if is_english else [*stem, *fold]
    split = tantivy.Tokenizer.simple()
    if own.has_marks:
        split = tantivy.Tokenizer.regex(_WORDS_WITH_MARKS)
    builder = tantivy.TextAnalyzerBuilder(split)
    for step in (tantivy.Filter.remove_long(longest), tantivy.Filter.lowercase(), *stop, *last):
        builder = builder.filter(step)
    return builder.build()


@lru_cache(_KEPT_HASHES)
def hash_of(term: str) -> int:
    """43 bits that stand for a term, the same everywhere.

    That two of a query's and a document's words share them is expected once in 10 ** 10 documents.
    """
    digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 64 - HASH_BITS


ENGLISH_ANALYZER = analyzer_of()
"""The default, and what earlier formats knew."""
