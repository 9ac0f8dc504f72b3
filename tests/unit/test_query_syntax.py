"""Operators are understood, and whatever makes no sense as one is text: nothing is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.query_syntax import Constraint, Understood, read

SIGNS = st.text(alphabet=' "+-\\ab東', max_size=24)


@pytest.mark.parametrize(
    ("query", "text", "required", "excluded"),
    [
        ("+sail boat", "sail boat", ["sail"], []),
        ("boat -sail", "boat", [], ["sail"]),
        ('"red boat" sail', "red boat sail", ["red boat"], []),
        ('+"red boat" sail', "red boat sail", ["red boat"], []),
        ('sail -"red boat"', "sail", [], ["red boat"]),
        ('"red boat", sail', "red boat, sail", ["red boat"], []),
        (r'"say \"aye\" now"', 'say "aye" now', ['say "aye" now'], []),
        (r"boat \-sail +x", "boat -sail x", ["x"], []),
        ("+東京 -大阪", "東京", ["東京"], ["大阪"]),
        ("+e-mail +e-mail", "e-mail e-mail", ["e-mail"], []),
        ('+a -b "c d"', "a  c d", ["a", "c d"], ["b"]),
    ],
)
def test_operators_say_what_documents_must_hold_and_must_not(
    query: str, text: str, required: list[str], excluded: list[str]
) -> None:
    assert read(query) == Understood(text, Constraint(tuple(required), tuple(excluded)))


@pytest.mark.parametrize(
    "query",
    [
        "red boat",
        "c++ e-mail 1+1=2",
        '"red boat',
        'red" boat',
        "+ - boat",
        "--sail",
        "+-sail",
        '""',
        '"?!" boat',
        'a"b"c',
        '"red"boat',
        "-sail -boat",
        "boat \\",
        "(+) - ***",
    ],
)
def test_what_makes_no_sense_as_an_operator_stays_as_it_was_typed(query: str) -> None:
    assert read(query) == Understood(query)


@given(query=st.text() | SIGNS)
def test_every_text_is_understood(query: str) -> None:
    found = read(query)

    if found.constraint is None:
        assert found.text == query
        return
    parts = (*found.constraint.required, *found.constraint.excluded)
    assert parts
    assert all(any(map(str.isalnum, part)) for part in (*parts, found.text))


@given(query=st.text(alphabet=st.characters(exclude_characters='"+-')))
def test_plain_words_are_what_they_were(query: str) -> None:
    assert read(query) == Understood(query)


@given(query=SIGNS)
def test_what_is_required_is_looked_for_too(query: str) -> None:
    found = read(query)

    for part in found.constraint.required if found.constraint is not None else ():
        assert part.strip() in found.text
