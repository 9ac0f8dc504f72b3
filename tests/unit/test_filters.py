"""Filters: what can be written, what it means, and what is said about what cannot be."""

import random
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.documents import AttributeValue
from core.errors import InvalidInput
from core.filters.columns import AttributeColumns
from core.filters.evaluation import matching
from core.filters.parsing import MAX_BYTES, MAX_CLAUSES, MAX_NESTING, parse
from core.filters.schema import (
    MAX_SEEN,
    NOTHING_DECLARED,
    UNKNOWN,
    Attribute,
    Schema,
    attributes_of,
    declare,
)
from core.filters.tree import Node
from core.filters.typing import check
from tests.fakes import filters

PAPERS: dict[str, dict[str, AttributeValue]] = {
    "bert": {"lang": "en", "year": 2019.0, "tags": ("nlp", "ml"), "draft": False},
    "colbert": {"lang": "en", "year": 2020.0, "tags": ("nlp", "ir"), "venue.name": "SIGIR"},
    "splade": {"lang": "fr", "year": 2021.0, "tags": ("ir",), "draft": True},
    "note": {"seen": datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC), "tags": ()},
}


DAMAGE = ("", "(", ")", '"', "'", "\\", " AND ", " OR", "NOT ", "-", "*", "<", "=", ":", ".", "é")


def node_of(text: str) -> Node:
    node = parse(text)
    assert node is not None
    return node


def found(text: str) -> set[str]:
    columns = AttributeColumns.of(list(PAPERS.values()))
    ids = pa.array(list(PAPERS), pa.large_string())
    truth = matching(node_of(text), columns, ids)
    return {id for id, hit in zip(PAPERS, truth, strict=True) if hit}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('lang = "en" AND year >= 2020 AND tags : "nlp" AND NOT draft', {"colbert"}),
        ("year < 2020 OR lang = fr AND tags : ir", {"splade"}),  # (year OR lang) AND tags
        ("(year < 2020) OR (lang = fr AND tags : ir)", {"bert", "splade"}),
        ("lang = en tags : ir", {"colbert"}),
        ("-lang = en", {"splade", "note"}),
        ("draft", {"splade"}),
        ("draft = false", {"bert"}),
        ("NOT draft", {"bert", "colbert", "note"}),
        ("year != 2020", {"bert", "splade", "note"}),
        ("year > 1e3 year <= 2020.0", {"bert", "colbert"}),
        ('lang = "e*"', {"bert", "colbert"}),
        ("tags : n*", {"bert", "colbert"}),
        ("lang < fr", {"bert", "colbert"}),
        ("tags : *", {"bert", "colbert", "splade"}),
        ("NOT tags : *", {"note"}),
        ("venue.name = SIGIR", {"colbert"}),
        ('"venue.name" : "SIGIR"', {"colbert"}),
        ("seen = 2026-01-31T13:00:00.000005+01:00", {"note"}),
        ('seen > "2026-01-31T12:00:00Z"', {"note"}),
        ("seen > 2026-01-31T12:00:00.0000059Z", set()),
        ("id = bert OR id : col*", {"bert", "colbert"}),
        ("id > note", {"splade"}),
        ("nothing = 1", set()),
        ("nothing != 1", set(PAPERS)),
    ],
)
def test_a_filter_means(text: str, ids: set[str]) -> None:
    assert found(text) == ids


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("year >", 7, "ends too early"),
        ("year > > 3", 8, "cannot stand here"),
        ("(year > 3", 10, "ends too early"),
        ("year > 3)", 9, "cannot stand here"),
        ('lang = "en', 8, "not understood"),
        ("AND", 1, "cannot stand here"),
        ("year = AND", 8, "cannot stand here"),
        ("regex(lang, x)", 1, "cannot stand here"),
        ("lang = en, year = 3", 10, "not understood"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(
    text: str, position: int, problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem) as refusal:
        parse(text)

    assert (refusal.value.reason, refusal.value.field) == ("INVALID_FILTER", "filter")
    assert f"character {position}:" in str(refusal.value)
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a " * (MAX_CLAUSES + 1), "INVALID_FILTER"),
        ("(" * (MAX_NESTING + 1) + "a" + ")" * (MAX_NESTING + 1), "INVALID_FILTER"),
        ("(" * MAX_BYTES, "INVALID_FILTER"),
        ("a" * (MAX_BYTES + 1), "TOO_LONG"),
        ("a = \x00", "NOT_UTF8"),
    ],
)
def test_a_filter_has_limits(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse(text)

    assert refusal.value.reason == reason


def test_what_is_within_the_limits_is_read() -> None:
    assert parse("a " * MAX_CLAUSES)
    assert parse("(" * MAX_NESTING + "a" + ")" * MAX_NESTING)
    assert parse("  ") is None


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aB1.*-\"'\\()=<>!:, \té") | st.characters(), max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        node = parse(text)
    except InvalidInput:
        return
    assert node is None or parse(str(node)) == node


def test_every_tree_is_written_as_it_is_read() -> None:
    chance = random.Random(1)
    for _ in range(500):
        node = node_of(filters.written(filters.random_filter(chance)))
        assert parse(str(node)) == node


def known() -> Schema:
    return NOTHING_DECLARED.with_seen(attributes_of(PAPERS.values()), complete=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yaer >= 2020", "did you mean year"),
        ("a = 1 and draft", "write AND in capital letters"),
        ("colour = red", "known are draft, id, lang"),
        ('year = "2020"', "a number without quotes"),
        ("year = new", "a number without quotes"),
        ("year = 1e999", "a number without quotes"),
        ("lang", "alone it would have to be a bool"),
        ("draft = yes", "= true or = false"),
        ("draft > true", "= true or = false"),
        ("tags = nlp", "with `:`"),
        ("seen > 2026-01-31", "a moment as in 2026"),
        ("seen > 2026-02-31T00:00:00Z", "a moment as in 2026"),
        ("seen > 2026-01-31T00:00:00", "a moment as in 2026"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        check(node_of(text.replace("a = 1 ", "lang = x ")), known())

    assert refusal.value.reason == "INVALID_FILTER"
    assert "at character" in str(refusal.value)


def test_an_attribute_may_have_values_of_several_types() -> None:
    schema = NOTHING_DECLARED.with_seen(
        attributes_of([{"size": 3.0}, {"size": "large"}]), complete=True
    )

    check(node_of("size > 2"), schema)
    check(node_of('size = "large"'), schema)
    with pytest.raises(InvalidInput, match="number or string"):
        check(node_of("size"), schema)


@pytest.mark.parametrize("schema", [UNKNOWN, NOTHING_DECLARED.with_seen((), complete=False)])
def test_an_attribute_is_not_refused_while_not_all_are_known(schema: Schema) -> None:
    check(node_of("colour = red"), schema)


def test_an_attribute_is_not_refused_while_writes_are_waited_for() -> None:
    check(node_of("colour = red"), known(), is_current=False)
    # It may come with another type too.
    check(node_of('year = "2020"'), known(), is_current=False)


def test_a_closed_schema_knows_all_there_ever_will_be() -> None:
    schema = declare([Attribute("year", "number")], closed=True, path="schema")

    check(node_of("year = 2020"), schema, is_current=False)
    with pytest.raises(InvalidInput, match="no attribute colour"):
        check(node_of("colour = red"), schema, is_current=False)
    with pytest.raises(InvalidInput, match="of type number"):
        check(node_of('year = "2020"'), schema, is_current=False)


def test_documents_must_be_as_declared() -> None:
    declared = [Attribute("year", "number"), Attribute("tags", "strings")]
    open_schema = declare(declared, closed=False, path="schema")
    closed = declare(declared, closed=True, path="schema")

    open_schema.check({"year": 2020.0, "tags": ("a",), "other": True}, "documents[0]")
    closed.check({"year": 2020.0}, "documents[0]")
    with pytest.raises(InvalidInput, match=r"is of type string, declared is number") as refusal:
        open_schema.check({"year": "2020"}, "documents[3].attributes")
    assert (refusal.value.reason, refusal.value.field) == (
        "ATTRIBUTE_MISMATCH",
        "documents[3].attributes['year']",
    )
    with pytest.raises(InvalidInput, match="schema of the collection is closed"):
        closed.check({"other": True}, "documents[0]")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ([Attribute("", "number")], "FIELD_REQUIRED"),
        ([Attribute("a", "")], "FIELD_REQUIRED"),
        ([Attribute("id", "string")], "MALFORMED"),
        ([Attribute("a", "string"), Attribute("a", "number")], "MALFORMED"),
        ([Attribute("a" * 129, "string")], "TOO_LONG"),
        ([Attribute(f"a{n}", "string") for n in range(257)], "OUT_OF_RANGE"),
    ],
)
def test_a_declaration_must_make_sense(attributes: list[Attribute], reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        declare(attributes, closed=False, path="collection.schema.attributes")

    assert refusal.value.reason == reason
    assert refusal.value.field.startswith("collection.schema.attributes")


def test_a_schema_that_grows_without_end_stops_being_complete() -> None:
    many = [Attribute(f"a{number:04}", "string") for number in range(MAX_SEEN + 1)]

    schema = NOTHING_DECLARED.with_seen(many, complete=True)

    assert len(schema.seen) == MAX_SEEN
    assert not schema.complete
    assert Schema.from_json(schema.to_json()) == schema


def test_a_filter_that_was_damaged_is_read_or_refused() -> None:
    chance = random.Random(8)
    for _ in range(1_000):
        text = filters.written(filters.random_filter(chance))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(DAMAGE) + text[place + chance.randrange(2) :]
        try:
            node = parse(text)
        except InvalidInput:
            continue
        assert node is None or parse(str(node)) == node


def test_columns_say_what_plain_python_says() -> None:
    chance = random.Random(2)
    documents = {f"d{n:03}": filters.random_attributes(chance) for n in range(400)}
    columns = AttributeColumns.of(list(documents.values()))
    ids = pa.array(list(documents), pa.large_string())
    for _ in range(400):
        tree = filters.random_filter(chance)
        truth = matching(node_of(filters.written(tree)), columns, ids)
        hits = {id for id, hit in zip(documents, truth, strict=True) if hit}
        expected = {id for id, each in documents.items() if filters.holds(tree, id, each)}
        assert hits == expected, filters.written(tree)


def test_a_filter_over_no_documents_finds_none() -> None:
    columns, ids = AttributeColumns.of([]), pa.array([], pa.large_string())

    assert not len(matching(node_of("lang = en OR id = a"), columns, ids))
    assert columns.attributes() == []
    assert AttributeColumns.joined([], 0).attributes() == []
