"""What documents must hold is told exactly, and the lexical leg finds the best of a mask."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.lexical_index
from core.analysis import analyzer_of
from core.bm25 import Statistics
from core.documents import Document, shard_of
from core.errors import InvalidInput
from core.languages import LexicalSettings
from core.masks import EXACT, OVER_FETCH
from core.matching import MAX_READ
from core.query_syntax import Constraint, read
from core.violations import violated_by
from shard.limits import Limits
from shard.snapshot import Snapshot
from tests.fakes.publisher import Publisher

WORDS = ["galley", "raft", "sail", "oar", "mast"]
Texts = Mapping[str, tuple[str, str]]


def holds(values: tuple[str, str], part: str) -> bool:
    """Whether a title or a text, split at blanks, has the part's words in a row."""
    wanted = part.split()
    for words in (value.split() for value in values):
        for start in range(len(words) - len(wanted) + 1):
            if words[start : start + len(wanted)] == wanted:
                return True
    return False


def allowed(texts: Texts, constraint: Constraint) -> set[str]:
    return {
        id
        for id, values in texts.items()
        if all(holds(values, part) for part in constraint.required)
        and not any(holds(values, part) for part in constraint.excluded)
    }


def shards(root: Path, count: int, texts: Texts) -> list[Snapshot]:
    """Shards of one collection, in three segments each; other documents were there and are gone."""
    publishers = [
        Publisher(root / "index", uid="uid-1", shard=n, shards=count) for n in range(count)
    ]
    everywhere = [publishers[shard_of(id, count)] for id in texts]
    for publisher, id in zip(everywhere, texts, strict=True):
        publisher.put(id, "raft sail raft", title="to be replaced")
    for publisher in publishers:
        publisher.put("gone", "raft sail oar rare")
        publisher.publish()
        publisher.delete("gone")
    for number, (publisher, id) in enumerate(zip(everywhere, texts, strict=True)):
        title, text = texts[id]
        publisher.put(id, text, title=title)
        if number == len(texts) // 2:
            publisher.publish()
    for publisher in publishers:
        publisher.publish()
    return [snapshot_of(each, root / f"view-{n}") for n, each in enumerate(publishers)]


def snapshot_of(publisher: Publisher, view: Path) -> Snapshot:
    assert publisher.manifest is not None
    return Snapshot.open(publisher.store, publisher.manifest, view, None)


def within(snapshot: Snapshot, constraint: Constraint) -> set[str]:
    """Ids of the documents that a snapshot takes to meet a constraint."""
    mask = snapshot.mask(Limits(constraint=constraint))
    assert mask is not None
    found = set()
    for segment, part in zip(snapshot.segments, mask.parts, strict=True):
        found |= {segment.ids[row] for row in np.flatnonzero(part).tolist()}
    return found


def collection_of(count: int) -> dict[str, tuple[str, str]]:
    """Short titles and texts; `rare` is in one of 50, `common` in five of six."""
    chance = random.Random(5)
    found = {}
    for number in range(count):
        title = chance.choices(WORDS, k=chance.randint(0, 3))
        words = chance.choices(WORDS, k=chance.randint(0, 12))
        words += ["rare"] * (number % 50 == 0) + ["common"] * (number % 6 != 0)
        found[f"d{number:03}"] = (" ".join(title), " ".join(words))
    return found


MANY = collection_of(600)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[list[Snapshot]]:
    """The same documents in one shard and in three."""
    return [shards(tmp_path_factory.mktemp("shards"), count, MANY) for count in (1, 3)]


def best(
    snapshots: list[Snapshot], query: str, limit: int, constraint: Constraint
) -> list[tuple[float, str]]:
    """What all shards find within a constraint by their common statistics, merged."""
    parts = [snapshot.count_terms(query) for snapshot in snapshots]
    holding = {term: sum(part.holding[term] for part in parts) for term in parts[0].holding}
    total = Statistics(
        sum(part.documents for part in parts), sum(part.length for part in parts), holding
    )
    limits = Limits(constraint=constraint)
    found = [each for s in snapshots for each in s.search_lexical(query, limit, total, limits)]
    return sorted((-each.score, each.id) for each in found)[:limit]


phrases = st.lists(st.sampled_from([*WORDS, "rare", "common"]), min_size=1, max_size=3)
parts = st.lists(phrases.map(" ".join), max_size=2).map(tuple)
constraints = st.builds(Constraint, required=parts, excluded=parts)
some = settings(max_examples=100, deadline=None)


@some
@given(constraint=constraints)
def test_documents_that_meet_a_constraint_are_those_of_a_scan(
    layouts: list[list[Snapshot]], constraint: Constraint
) -> None:
    wanted = allowed(MANY, constraint)

    for snapshots in layouts:
        assert set().union(*(within(each, constraint) for each in snapshots)) == wanted


@some
@given(constraint=constraints, number=st.integers(0, 599))
def test_a_document_says_itself_what_it_violates(constraint: Constraint, number: int) -> None:
    values = MANY[f"d{number:03}"]

    found = violated_by(Document("a", *values), constraint, analyzer_of())

    assert found.required == tuple(p for p in constraint.required if not holds(values, p))
    assert found.excluded == tuple(p for p in constraint.excluded if holds(values, p))


@settings(max_examples=40, deadline=None)
@given(constraint=constraints, query=phrases.map(" ".join), limit=st.integers(1, 30))
def test_the_ranking_within_a_constraint_is_the_same_on_any_number_of_shards(
    layouts: list[list[Snapshot]], constraint: Constraint, query: str, limit: int
) -> None:
    one, three = [best(snapshots, query, limit, constraint) for snapshots in layouts]

    assert one == three, "to the last bit"
    words = set(query.split())
    inside = allowed(MANY, constraint)
    matching = [id for id in inside if words & set(" ".join(MANY[id]).split())]
    assert len(one) == min(limit, len(matching))


@some
@given(query=st.text(max_size=40) | st.text(alphabet='"+-\\ raftsilo東京', max_size=40))
def test_no_text_fails_as_a_query_with_operators(layouts: list[list[Snapshot]], query: str) -> None:
    understood = read(query)
    limits = Limits(constraint=understood.constraint)

    for snapshot in layouts[1]:
        for each in snapshot.search_lexical(understood.text, 3, None, limits):
            assert understood.constraint is None or each.id in within(
                snapshot, understood.constraint
            )


def test_parts_without_words_ask_for_nothing(tmp_path: Path) -> None:
    (snapshot,) = shards(tmp_path, 1, {"a": ("", "raft"), "b": ("", "sail")})

    assert within(snapshot, Constraint(("?!",), ("...",))) == {"a", "b"}
    assert within(snapshot, Constraint(("?!", "raft"))) == {"a"}


def test_a_phrase_is_found_by_the_forms_of_its_words_with_stop_words(tmp_path: Path) -> None:
    collection = {"a": ("", "the ships of the line"), "b": ("", "ships in line"), "c": ("a", "b")}
    (snapshot,) = shards(tmp_path, 1, collection)

    assert within(snapshot, Constraint(("Ship of the Line",))) == {"a"}
    assert within(snapshot, Constraint(("a b",))) == set(), "not from the title into the text"


def test_phrases_of_chinese_count_characters(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "index", lexical=LexicalSettings("cjk", 1))
    publisher.put("a", "我住在東京都。 iPhone", title="東京")
    publisher.put("b", "我住在京都", title="東")
    publisher.put("c", "")
    publisher.publish()
    snapshot = snapshot_of(publisher, tmp_path / "view")

    assert within(snapshot, Constraint(("東京都",))) == {"a"}
    assert within(snapshot, Constraint(("京都",), ("iphone",))) == {"b"}
    assert within(snapshot, Constraint(("東",), ("東京",))) == {"b"}
    assert [each.id for each in snapshot.search_lexical("京都 住む", 9)] == ["b", "a"]


def test_an_index_without_places_reads_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What formats 1 to 3 wrote."""
    schema = core.lexical_index._schema
    with monkeypatch.context() as patch:
        patch.setattr(core.lexical_index, "_schema", lambda name, kept: schema(name, "freq"))
        publisher = Publisher(tmp_path / "index")
    publisher.put("a", "red raft", title="sail")
    publisher.put("b", "raft red sail")
    for number in range(MAX_READ + 1):
        publisher.put(f"d{number}", "oar mast oar")
    publisher.publish()
    snapshot = snapshot_of(publisher, tmp_path / "view")

    assert within(snapshot, Constraint(("red raft",))) == {"a"}
    assert within(snapshot, Constraint((), ("red raft", "oar"))) == {"b"}
    assert len(within(snapshot, Constraint(("oar", "mast")))) == MAX_READ + 1
    with pytest.raises(InvalidInput, match="does not know where") as refused:
        within(snapshot, Constraint(("mast oar",)))
    assert (refused.value.reason, refused.value.field) == ("OUT_OF_RANGE", "query")


def test_no_documents_meet_a_constraint_of_an_empty_shard(tmp_path: Path) -> None:
    (snapshot,) = shards(tmp_path, 1, {})
    limits = Limits(constraint=Constraint(("raft",)))

    assert within(snapshot, limits.constraint or Constraint()) == set()
    assert not snapshot.search_lexical("raft", 3, None, limits)


@pytest.mark.parametrize(
    ("constraint", "strategy"),
    [
        (Constraint(("rare",)), EXACT),
        (Constraint(("common",)), OVER_FETCH),
        (Constraint((), ("common",)), EXACT),
        (Constraint((), ("rare",)), OVER_FETCH),
        (Constraint(("rare",), ("rare",)), EXACT),
    ],
)
@pytest.mark.parametrize("query", ["raft sail", "oar", "rare oar", "mast nothing"])
@pytest.mark.parametrize("limit", [1, 10, 400])
def test_the_lexical_leg_finds_the_best_of_a_mask_with_their_own_scores(
    layouts: list[list[Snapshot]], constraint: Constraint, strategy: str, query: str, limit: int
) -> None:
    ((many,), _) = layouts
    limits = Limits(constraint=constraint)
    everything = many.search_lexical(query, len(MANY))
    inside = within(many, constraint)

    found = many.search_lexical(query, limit, None, limits)

    assert list(found) == [each for each in everything if each.id in inside][:limit]
    mask = many.mask(limits)
    assert mask is not None
    assert limit > 10 or many._matcher.strategy(limit, mask) == strategy
