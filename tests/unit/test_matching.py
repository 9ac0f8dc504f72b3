"""The lexical leg is exact: what any scan over all live documents would give, on any shards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.bm25 import Statistics
from core.documents import shard_of
from core.languages import LexicalSettings
from shard.ranked import Candidate
from shard.snapshot import Snapshot
from tests.fakes.publisher import Publisher

WORDS = ["galley", "raft", "sail", "oar", "mast"]
Found = list[tuple[str, float]]


def scan(documents: Mapping[str, str], query: str, limit: int) -> Found:
    """BM25 of every document, written out; words are split at blanks."""
    counts = {id: Counter(text.split()) for id, text in documents.items()}
    mean = sum(sum(own.values()) for own in counts.values()) / max(1, len(counts))
    scores: dict[str, float] = {}
    for word in sorted(set(query.split())):
        times = query.split().count(word)
        holding = [id for id, own in counts.items() if own[word]]
        idf = math.log(1 + (len(counts) - len(holding) + 0.5) / (len(holding) + 0.5))
        for id in holding:
            size = sum(counts[id].values())
            f = counts[id][word]
            saturated = f / (f + 1.2 * (1 - 0.75 + 0.75 * size / mean))
            weight = 9 * times / (8 + times) * idf * 2.2
            scores[id] = scores.get(id, 0.0) + weight * saturated
    return sorted(scores.items(), key=lambda item: (-round(item[1], 9), item[0]))[:limit]


def matched(found: Iterable[Candidate]) -> Found:
    return [(each.id, each.score) for each in found]


def over(snapshots: Sequence[Snapshot], query: str, limit: int) -> Found:
    """What all shards find by their common statistics, merged."""
    parts = [snapshot.count_terms(query) for snapshot in snapshots]
    holding = {term: sum(part.holding[term] for part in parts) for term in parts[0].holding}
    total = Statistics(
        sum(part.documents for part in parts), sum(part.length for part in parts), holding
    )
    found = [each for s in snapshots for each in s.search_lexical(query, limit, total)]
    return matched(sorted(found, key=lambda each: (-each.score, each.id))[:limit])


@dataclass
class Shards:
    """Shards of one collection, written as indexers do; `texts` is the truth."""

    root: Path
    count: int
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.publishers = [
            Publisher(self.root / "index", uid="uid-1", shard=n, shards=self.count)
            for n in range(self.count)
        ]

    def put(self, id: str, text: str) -> None:
        self.texts[id] = text
        self.publishers[shard_of(id, self.count)].put(id, text)

    def delete(self, id: str) -> None:
        if self.texts.pop(id, None) is not None:
            self.publishers[shard_of(id, self.count)].delete(id)

    def publish(self) -> None:
        for publisher in self.publishers:
            publisher.publish()

    def snapshots(self) -> list[Snapshot]:
        found = []
        for number, publisher in enumerate(self.publishers):
            assert publisher.manifest is not None
            view = self.root / f"view-{number}-{publisher.manifest.name}"
            found.append(Snapshot.open(publisher.store, publisher.manifest, view, None))
        return found


texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
ids = st.integers(0, 25).map(lambda number: f"d{number:02}")
batch = st.lists(st.tuples(ids, texts | st.none()), max_size=12)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(batch, min_size=1, max_size=4),
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    limit=st.integers(1, 12),
)
def test_any_number_of_shards_finds_what_a_scan_would(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, str | None]]],
    query: str,
    limit: int,
) -> None:
    answers = []
    for count in (1, 3):
        shards = Shards(tmp_path_factory.mktemp("shards"), count)
        for own in batches:
            for id, text in own:
                shards.delete(id) if text is None else shards.put(id, text)
            shards.publish()
        answers.append(over(shards.snapshots(), query, limit))

    wanted = scan(shards.texts, query, limit)
    assert answers[0] == answers[1], "to the last bit"
    assert [id for id, _ in answers[0]] == [id for id, _ in wanted]
    assert [score for _, score in answers[0]] == pytest.approx([score for _, score in wanted])


def test_a_shard_alone_counts_live_documents_only(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 1)
    for number in range(6):
        shards.put(f"d{number}", "galley raft" if number % 2 else "galley mast mast")
    shards.publish()
    shards.delete("d0")
    shards.put("d1", "sail sail sail sail sail sail sail")
    shards.publish()
    (snapshot,) = shards.snapshots()

    statistics = snapshot.count_terms("the galley raft")

    assert statistics == Statistics(5, 2 + 3 + 2 + 3 + 7, {"galley": 4, "raft": 2})
    assert matched(snapshot.search_lexical("galley raft", 9)) == over([snapshot], "galley raft", 9)
    assert [id for id, _ in over([snapshot], "galley raft", 9)] == [
        id for id, _ in scan(shards.texts, "galley raft", 9)
    ]


def test_a_boosted_title_scores_as_if_it_were_repeated(tmp_path: Path) -> None:
    boosted = Publisher(tmp_path / "boosted", lexical=LexicalSettings("en", 2))
    repeated = Publisher(tmp_path / "repeated")
    for number in range(40):
        title, text = f"galley {WORDS[number % 5]}", " ".join([*WORDS[: number % 4], "raft"])
        boosted.put(f"d{number}", text, title=title)
        repeated.put(f"d{number}", text, title=f"{title} {title} {title}")
    found: list[Found] = []
    for publisher in (boosted, repeated):
        snapshot = Snapshot.open(
            publisher.store, publisher.publish(), tmp_path / f"view-{len(found)}", None
        )
        found.append(matched(snapshot.search_lexical("raft galley mast", 25)))

    assert found[0] == found[1], "to the last bit"


def test_every_tie_with_the_last_is_kept_and_the_first_ids_win(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 1)
    for number in reversed(range(100)):
        shards.put(f"d{number:02}", "ship")
    shards.put("best", "ship ship")
    shards.publish()
    (snapshot,) = shards.snapshots()

    found = snapshot.search_lexical("ship", 3)

    assert [each.id for each in found] == ["best", "d00", "d01"]


def test_documents_that_a_shard_underrates_are_found(tmp_path: Path) -> None:
    """Here all documents but one are short: the shard's mean length lets that one seem long."""
    shards = Shards(tmp_path, 1)
    for number in range(60):
        shards.put(f"short{number:02}", "raft mast")
    shards.put("long", "raft raft raft " + "oar " * 40)
    shards.publish()
    (snapshot,) = shards.snapshots()
    elsewhere = Statistics(10_000, 10_000 * 400, {"raft": 70})

    alone = snapshot.search_lexical("raft", 1)
    among_long_ones = snapshot.search_lexical("raft", 1, elsewhere)

    assert [each.id for each in alone] == ["short00"]
    assert [each.id for each in among_long_ones] == ["long"]


def test_a_term_that_all_documents_have_still_tells_something(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 1)
    for number in range(200):
        shards.put(f"d{number:03}", "raft " * (1 + number % 7) + "oar " * (number % 5))
    shards.publish()
    (snapshot,) = shards.snapshots()

    found = matched(snapshot.search_lexical("raft oar", 25))

    wanted = scan(shards.texts, "raft oar", 25)
    assert [id for id, _ in found] == [id for id, _ in wanted]
