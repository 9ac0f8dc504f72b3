"""Texts become words, queries become terms, and words are found again where they stand."""

import pytest

from core.analysis import ENGLISH_ANALYZER, HASH_BITS, hash_of


def test_the_terms_of_a_query_are_stems_in_order_without_stop_words() -> None:
    assert ENGLISH_ANALYZER.query_terms("The Sailing of Ships, sailed!") == {
        "sail": 9 * 2 / (8 + 2),
        "ship": 1.0,
    }
    assert list(ENGLISH_ANALYZER.query_terms("zebra apple")) == ["appl", "zebra"]


def test_a_query_of_stop_words_alone_keeps_them() -> None:
    assert ENGLISH_ANALYZER.query_terms("to be") == {"be": 1.0, "to": 1.0}
    assert ENGLISH_ANALYZER.query_terms("?!") == {}


def test_a_term_that_the_query_repeats_counts_more_but_saturates() -> None:
    assert ENGLISH_ANALYZER.query_terms("ship ship ship")["ship"] == pytest.approx(9 * 3 / (8 + 3))


def test_the_words_of_a_document_are_those_of_title_and_text_with_their_counts() -> None:
    words, length = ENGLISH_ANALYZER.words_of("Ship", "ships and a sail")

    counts = {int(word) % (1 << HASH_BITS): int(word) >> HASH_BITS for word in words}
    assert counts == {hash_of("ship"): 2, hash_of("and"): 1, hash_of("a"): 1, hash_of("sail"): 1}
    assert length == 5


def test_the_longest_document_does_not_overflow_its_counts() -> None:
    words, length = ENGLISH_ANALYZER.words_of("", "a " * (1 << 19))

    assert (int(words[0]) >> HASH_BITS, length) == (1 << 19, 1 << 19)


def test_a_document_without_words_has_none() -> None:
    words, length = ENGLISH_ANALYZER.words_of("", "☃ !")

    assert (len(words), length) == (0, 0)


def test_words_are_marked_in_bytes_by_what_they_mean() -> None:
    text = "Größere Schiffe ☃ sailing, Sails naïve"

    found = ENGLISH_ANALYZER.marks_of(text, {"sail", "naiv"})

    spans = zip(found[::2], found[1::2], strict=True)
    assert [text.encode()[a:b].decode() for a, b in spans] == ["sailing", "Sails", "naïve"]
