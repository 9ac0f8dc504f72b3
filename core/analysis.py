"""What counts as a word: texts and queries become the terms of the lexical leg.

A text is split at whatever is no letter or digit; words are folded to ASCII, lower case, English
stems. A query is analysed like a text, so it is never parsed and cannot be a syntax error. Its stop
words are left out unless it has nothing else; a term that it repeats counts by BM25's k3.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

import numpy as np
import tantivy
from numpy.typing import NDArray

Words = NDArray[np.int64]
"""Distinct words of a text: 20 bits of how often each occurs above 43 bits of its hash."""

HASH_BITS = 43
_LONGEST_TERM = 40
_KEPT_HASHES = 1 << 16

# Okapi's saturation of a query's own term frequencies (Robertson et al., TREC-3): long queries
# repeat what they are about.
_K3 = 8.0
# Lucene's English stop words; their stems are themselves.
_STOP_TEXT = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there
    these they this to was will with
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


def text_analyzer() -> tantivy.TextAnalyzer:
    """The analyser, as Tantivy needs it for its field."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(_LONGEST_TERM),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stemmer("english"),
    ):
        builder = builder.filter(step)
    return builder.build()


def body_of(title: str, text: str) -> str:
    """What is analysed of a document. One field for both did better than separate boosted ones."""
    return f"{title}\n{text}"


def query_terms(text: str) -> dict[str, float]:
    """A query's distinct terms, ascending, each with the weight that its repetition gives it.

    Once is 1, n times are (k3 + 1) * n / (k3 + n).
    """
    terms = _ANALYZER.analyze(text)
    counts = Counter([term for term in terms if term not in _STOP_WORDS] or terms)
    return {term: (_K3 + 1) * n / (_K3 + n) for term, n in sorted(counts.items())}


def words_of(title: str, text: str) -> tuple[Words, int]:
    """A document's words, and its length: how many there are, each counted as often as it is.

    Texts are too short (`core.documents`) for a count to overflow.
    """
    terms = _ANALYZER.analyze(body_of(title, text))
    packed = [n << HASH_BITS | hash_of(term) for term, n in Counter(terms).items()]
    return np.array(packed, np.int64), len(terms)


def marks_of(text: str, terms: Collection[str]) -> list[int]:
    """Where a text holds any of the terms: first byte and one past the last, in turn."""
    found: list[int] = []
    characters = size = 0
    for token in _ANALYZER.pre_tokenize(text).tokens:
        if token.text not in terms:
            continue
        first, end = token.char_offset_from, token.char_offset_to
        start = size + len(text[characters:first].encode())
        characters, size = end, start + len(text[first:end].encode())
        found += [start, size]
    return found


@lru_cache(_KEPT_HASHES)
def hash_of(term: str) -> int:
    """43 bits that stand for a term, the same everywhere.

    That two of a query's and a document's words share them is expected once in 10 ** 10 documents.
    """
    digest = hashlib.blake2b(term.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 64 - HASH_BITS


_ANALYZER = text_analyzer()
