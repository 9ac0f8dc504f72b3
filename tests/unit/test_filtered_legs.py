"""Every leg finds exactly what matches a filter, over segments old and new, with deletes.

`TRIREME_FILTERS=5000` makes as many filters as that instead of two hundred.
"""

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from core.documents import Document
from core.errors import CorruptFile
from core.filters.columns import ATTRIBUTES
from core.filters.parsing import parse
from core.filters.tree import Node
from core.manifest import Manifest
from core.masks import EXACT, OVER_FETCH, Mask
from core.merging import merge_segments
from core.searching import nearest_documents
from core.segment import Segment, Vectors
from core.segment_tables import StoredDocument
from core.segment_writing import write_segment
from core.vectors.choosing import Plan
from core.vectors.kinds import KINDS, Kind
from core.vectors.sealing import write_vectors
from shard.fetched import Terms
from shard.limits import NO_LIMITS, Limits
from shard.ranked import Candidate
from shard.snapshot import Snapshot
from tests.fakes import filters
from tests.fakes.publisher import Publisher, embed, passages_of, token_of

FILTERS = int(os.environ.get("TRIREME_FILTERS", "200"))
ALL = 1_000
WORDS = ("galley", "frigate", "raft", "kayak", "sail", "oar", "mast")
QUERY = "ship galley sail"
TERMS = Terms(
    np.array([token_of(word) for word in QUERY.split()], np.int32), np.ones(3, np.float32)
)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """Three segments; documents of the older ones are replaced and deleted by the newer."""
    chance = random.Random(3)
    publisher = Publisher(tmp_path_factory.mktemp("filters") / "index", sparse=True)
    for generation in range(3):
        for number in range(generation * 120, 240 + generation * 80):
            lines = ["ship " + " ".join(chance.choices(WORDS, k=4)) for _ in range(number % 3 + 1)]
            publisher.put(
                f"d{number:03}", "\n".join(lines), attributes=filters.random_attributes(chance)
            )
        for document_id in chance.sample(sorted(publisher.documents), 20):
            publisher.delete(document_id)
        publisher.publish()
    return publisher


@pytest.fixture(scope="module")
def snapshot(publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    assert publisher.manifest is not None
    return opened(publisher, publisher.manifest, tmp_path_factory.mktemp("view"))


def opened(publisher: Publisher, manifest: Manifest, directory: Path) -> Snapshot:
    return Snapshot.open(publisher.store, manifest, directory / manifest.name, None)


def legs(snapshot: Snapshot, limit: int, limits: Limits) -> list[list[Candidate]]:
    found = (
        snapshot.search_dense(embed(QUERY), limit, limits),
        snapshot.search_lexical(QUERY, limit, None, limits),
        snapshot.search_sparse(TERMS, limit, limits),
    )
    return [list(leg) for leg in found]


def node_of(text: str) -> Node:
    node = parse(text)
    assert node is not None
    return node


def entry_paths(publisher: Publisher) -> dict[str, Path]:
    """The files of the oldest segment."""
    assert publisher.manifest is not None
    return {file.name: publisher.store.path(file) for file in publisher.manifest.segments[0].files}


def expected_ids(publisher: Publisher, tree: filters.Filter) -> set[str]:
    return {
        id
        for id, stored in publisher.documents.items()
        if filters.holds(tree, id, stored.document.attributes)
    }


def test_every_leg_finds_what_plain_python_finds(publisher: Publisher, snapshot: Snapshot) -> None:
    chance = random.Random(4)
    unfiltered = legs(snapshot, ALL, NO_LIMITS)
    sizes = set()
    for _ in range(FILTERS):
        tree = filters.random_filter(chance)
        text = filters.written(tree)
        limits = Limits(parse(text))
        expected = expected_ids(publisher, tree)
        sizes.add(len(expected))
        limit = chance.choice((1, 10, ALL))
        for everything, found in zip(unfiltered, legs(snapshot, limit, limits), strict=True):
            assert found == [each for each in everything if each.id in expected][:limit], text
        plan = snapshot.plan_dense(limit, limits)
        assert plan is not None
        assert (plan.matching, plan.documents) == (len(expected), len(publisher.documents))
    assert {0, len(publisher.documents)} < sizes  # some match nothing, some all


def test_the_lexical_leg_asks_for_more_or_scores_all(snapshot: Snapshot) -> None:
    few, many = Limits(parse("id = d1*")), Limits(parse("id != d001"))

    plans = [snapshot.plan_lexical(10, limits) for limits in (few, many)]

    assert [plan.strategies for plan in plans if plan] == [{EXACT}, {OVER_FETCH}]
    assert snapshot.plan_lexical(10, NO_LIMITS) is None


def test_a_segment_of_an_earlier_format_is_read_at_the_first_filter(publisher: Publisher) -> None:
    paths = entry_paths(publisher)
    new, old = (
        Segment.open(paths),
        Segment.open({n: p for n, p in paths.items() if n != ATTRIBUTES}),
    )
    chance = random.Random(5)
    for _ in range(50):
        node = node_of(filters.written(filters.random_filter(chance)))
        assert np.array_equal(new.matching(node), old.matching(node))
    assert (new.filter.is_stored, old.filter.is_stored) == (True, False)


def test_attributes_are_merged_without_those_of_the_dead(
    publisher: Publisher, snapshot: Snapshot, tmp_path: Path
) -> None:
    chance = random.Random(6)
    merged = merged_segment(snapshot.segments, tmp_path)
    for _ in range(100):
        tree = filters.random_filter(chance)
        node = node_of(filters.written(tree))
        found = {merged.ids[row] for row in np.flatnonzero(merged.matching(node)).tolist()}
        assert found == expected_ids(publisher, tree)


def merged_segment(segments: Sequence[Segment], directory: Path) -> Segment:
    merged = merge_segments(segments, directory)
    return Segment.open({path.name: path for path in merged.paths})


def test_a_damaged_attributes_file_is_said_to_be(publisher: Publisher, tmp_path: Path) -> None:
    paths = entry_paths(publisher)
    damaged = tmp_path / ATTRIBUTES
    damaged.write_bytes(paths[ATTRIBUTES].read_bytes()[:-20])

    with pytest.raises(CorruptFile, match="attributes"):
        Segment.open(paths | {ATTRIBUTES: damaged}).matching(node_of("draft"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.precisions])
def test_every_kind_of_vector_index_finds_all_that_match(kind: Kind, tmp_path: Path) -> None:
    chance = random.Random(7)
    documents = {f"d{row:04}": filters.random_attributes(chance) for row in range(1_500)}
    segment, vector = sealed_segment(documents, kind, tmp_path)
    for _ in range(20):
        tree = filters.random_filter(chance)
        mask = Mask([segment.matching(node_of(filters.written(tree)))])
        expected = [
            row
            for row, (id, attributes) in enumerate(documents.items())
            if filters.holds(tree, id, attributes)
        ]
        everything, _ = nearest_documents([segment], vector, len(documents), mask)
        best, _ = nearest_documents([segment], vector, 10, mask)
        assert sorted(everything) == expected
        assert len(best) == min(10, len(expected))
        assert set(best) <= set(expected)


def sealed_segment(
    documents: Mapping[str, filters.Attributes], kind: Kind, directory: Path
) -> tuple[Segment, Vectors]:
    """A segment of documents with one random vector each, in an index of a kind."""
    count = len(documents)
    vectors = np.random.default_rng(7).normal(size=(count, 32)).astype(np.float32)
    stored = [
        StoredDocument(row, Document(id, text="ship", attributes=attributes))
        for row, (id, attributes) in enumerate(documents.items(), start=1)
    ]
    passages = [each for row in range(count) for each in passages_of(row, "ship")]
    written = write_segment(directory, stored, passages, vectors, similarity="dot")
    (directory / "sealed").mkdir()
    plan = Plan(kind, kind.precisions[0], 0.9)
    sealed = write_vectors(directory / "sealed", [vectors], 32, "dot", plan)
    paths = {path.name: path for path in (*written, *sealed.paths)}
    return Segment.open(paths, effort=sealed.effort), vectors[0]
