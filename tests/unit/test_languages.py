"""Each language has its words: stems, stop words, accents, n-grams where there are no blanks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.analysis import HASH_BITS, analyzer_of, hash_of
from core.errors import InvalidInput
from core.languages import CJK, ENGLISH, LANGUAGES, LexicalSettings, language_of

ANALYZERS = {code: analyzer_of(LexicalSettings(code)) for code in LANGUAGES}
MIXED = st.text(alphabet="ab É東京タワー한국 -", max_size=20)


def marked(language: str, text: str, query: str) -> list[str]:
    """What is marked of a text."""
    analyzer = ANALYZERS[language]
    found = analyzer.marks_of(text, analyzer.query_terms(query).keys())
    spans = zip(found[::2], found[1::2], strict=True)
    return [text.encode()[a:b].decode() for a, b in spans]


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("da", "de gamle skibe", "skib"),
        ("de", "die größeren Schiffe", "grosser schiff"),
        ("el", "τα μεγάλα πλοία", "μεγαλα"),
        ("en", "the sailing ships", "ship sails"),
        ("es", "los barcos más rápidos", "barco rapido"),
        ("fi", "suuret laivat", "laiva"),
        ("fr", "les forêts anciennes", "foret ancienne"),
        ("hu", "a nagy hajók", "hajó"),
        ("it", "le navi veloci", "nave veloce"),
        ("nl", "de grote schepen varen", "vaar"),
        ("no", "de gamle skipene", "skip"),
        ("pt", "as embarcações rápidas", "embarcação rapida"),
        ("ro", "corăbiile mari", "corabiile"),
        ("ru", "большие корабли", "корабль"),
        ("sv", "de gamla skeppen", "skepp"),
        ("tr", "İZMİR kitapları ISPARTA", "izmir kitap ısparta"),
        ("ar", "السفن الكبيرة", "سفن"),
        ("ta", "கப்பல்கள் பெரியவை", "கப்பல்கள்"),
        ("none", "Sailing SHIPS, naïve", "ships naive"),
    ],
)
def test_a_query_finds_other_forms_of_its_words(language: str, text: str, query: str) -> None:
    analyzer = ANALYZERS[language]

    assert analyzer.query_terms(query).keys() <= set(analyzer.terms(text))


@pytest.mark.parametrize(
    ("language", "query", "left"),
    [("de", "das Schiff und der Wind", 2), ("fr", "le vent et la mer", 2), ("ru", "и ветер", 1)],
)
def test_stop_words_of_the_language_are_left_out_unless_there_is_nothing_else(
    language: str, query: str, left: int
) -> None:
    analyzer = ANALYZERS[language]

    assert len(analyzer.query_terms(query)) == left
    assert len(ANALYZERS["de"].query_terms("das der")) == 2


def test_letters_of_their_own_are_not_folded() -> None:
    assert ANALYZERS["sv"].terms("röd") != ANALYZERS["sv"].terms("rod")
    assert ANALYZERS["de"].terms("röd") == ANALYZERS["de"].terms("rod")


def test_runs_without_blanks_give_characters_and_pairs_and_words_stay_whole() -> None:
    analyzer = ANALYZERS[CJK]

    assert analyzer.terms("東京タワー iPhones") == [
        *("東", "東京", "京", "京タ", "タ", "タワ", "ワ", "ワー", "ー", "iphones")
    ]
    assert list(analyzer.query_terms("東京の iPhones を")) == ["iphones", "を", "京の", "東京"]


def test_pairs_that_overlap_are_marked_as_one() -> None:
    assert marked(CJK, "新しい東京タワーへ iPhone で", "東京タワー iphone") == [
        "東京タワー",
        "iPhone",
    ]
    assert marked(CJK, "東、京。東京", "東京") == ["東京"]
    assert marked(CJK, "서울특별시 한국", "한국") == ["한국"]


def test_a_phrase_counts_characters_as_places() -> None:
    analyzer = ANALYZERS[CJK]

    assert analyzer.phrase("東京 tower") == ((0, "東京"), (2, "tower"))
    assert analyzer.holds("the 東京 Tower", analyzer.phrase("東京tower"))
    assert not analyzer.holds("東 京 tower", analyzer.phrase("東京tower"))


def test_words_of_the_title_count_more_by_the_boost() -> None:
    words, length = analyzer_of(LexicalSettings("en", 2)).words_of("Ship", "a ship")

    counts = {int(word) % (1 << HASH_BITS): int(word) >> HASH_BITS for word in words}
    assert counts == {hash_of("ship"): 1 * (1 + 2) + 1, hash_of("a"): 1}
    assert length == 1 * (1 + 2) + 2


@given(text=MIXED, language=st.sampled_from(list(LANGUAGES)))
def test_every_text_has_terms_where_its_marks_are(text: str, language: str) -> None:
    analyzer = ANALYZERS[language]
    terms = analyzer.terms(text)

    bounds = analyzer.marks_of(text, set(terms))

    assert bounds == sorted(bounds)
    assert bool(bounds) == bool(terms)
    assert analyzer.query_terms(text).keys() <= set(terms)
    for start, end in zip(bounds[::2], bounds[1::2], strict=True):
        assert text.encode()[start:end].decode().strip()


@given(text=MIXED, language=st.sampled_from(list(LANGUAGES)))
def test_a_text_holds_itself_as_a_phrase(text: str, language: str) -> None:
    analyzer = ANALYZERS[language]
    phrase = analyzer.phrase(text)

    assert not phrase or analyzer.holds(f"x {text} x", phrase)


@pytest.mark.parametrize(
    ("code", "language"),
    [("", "en"), ("pt-BR", "pt"), ("zh_Hant", CJK), ("ja", CJK), ("KO", CJK), ("nb", "no")],
)
def test_codes_that_people_write_are_understood(code: str, language: str) -> None:
    assert language_of(code, "language") == language


def test_an_unknown_language_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match="use one of ar, da, de") as refused:
        language_of("tlh", "collection.lexical.language")

    assert (refused.value.reason, refused.value.field) == (
        "OUT_OF_RANGE",
        "collection.lexical.language",
    )


def test_settings_are_kept_as_json_and_english_says_nothing() -> None:
    german = LexicalSettings("de", 3)

    assert LexicalSettings.from_json(german.to_json()) == german
    assert (ENGLISH.to_json(), LexicalSettings.from_json("")) == ("", ENGLISH)
