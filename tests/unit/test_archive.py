"""An archived generation gives the documents that it had, whatever was written since."""

import random
from pathlib import Path

import numpy as np
import pytest

from core.documents import Document
from shard.archive import Archive
from shard.fetched import Terms
from shard.snapshot import Snapshot
from tests.fakes.publisher import Publisher, embed, token_of


class Writer:
    """Publishes generations, archives each, and remembers what it held."""

    def __init__(self, directory: Path, *, sparse: bool = False) -> None:
        self.publisher = Publisher(directory / "index", sparse=sparse)
        self.archive = Archive()
        self.truth: dict[int, dict[str, Document]] = {}
        self._views = directory / "views"
        self._snapshot: Snapshot | None = None

    def publish(self, *, merge: bool = False, drop_at: float = 90.0) -> int:
        manifest = self.publisher.merge() if merge else self.publisher.publish()
        view = self._views / manifest.name
        self._snapshot = Snapshot.open(self.publisher.store, manifest, view, self._snapshot)
        self.archive.add(self._snapshot, drop_at)
        documents = self.publisher.documents.items()
        self.truth[manifest.generation] = {id: stored.document for id, stored in documents}
        self._snapshot.close()
        return manifest.generation


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_every_generation_keeps_the_documents_that_it_had(writer: Writer, seed: int) -> None:
    chance = random.Random(seed)
    ids = [f"d{number}" for number in range(12)]
    for step in range(8):
        for _ in range(chance.randint(1, 5)):
            chosen = chance.choice(ids)
            if chosen in writer.publisher.documents and chance.random() < 0.4:
                writer.publisher.delete(chosen)
            else:
                writer.publisher.put(chosen, f"text of step {step}")
        if writer.publisher.documents:
            writer.publish(merge=False)
            if chance.random() < 0.3:
                writer.publish(merge=True)

    for generation, documents in writer.truth.items():
        archived = writer.archive.find(generation)
        assert archived is not None
        wanted = sorted(documents, reverse=True)
        found = archived.fetch(wanted, embed("text"))
        assert [item.id for item in found] == wanted
        assert {item.id: item.document for item in found} == documents


def test_an_archived_document_has_the_best_passage_of_its_text(tmp_path: Path) -> None:
    writer = Writer(tmp_path, sparse=True)
    writer.publisher.put("boats", "rowed by oarsmen\nmade of logs")
    before = writer.publish()
    writer.publisher.put("boats", "gone")
    writer.publish()
    archived = writer.archive.find(before)
    assert archived is not None

    (by_vector,) = archived.fetch(["boats"], embed("logs"))
    terms = Terms(np.array([token_of("logs")], np.int32), np.ones(1, np.float32))
    (by_terms,) = archived.fetch(["boats"], None, terms)
    (first,) = archived.fetch(["boats"], None)

    starts = [item.passage.start_byte for item in (by_vector, by_terms, first) if item.passage]
    assert starts == [len("rowed by oarsmen\n"), len("rowed by oarsmen\n"), 0]


def test_documents_that_were_never_there_are_left_out(writer: Writer) -> None:
    writer.publisher.put("raft", "made of logs")
    archived = writer.archive.find(writer.publish())

    assert archived is not None
    assert [item.id for item in archived.fetch(["kayak", "raft"], None)] == ["raft"]
    assert archived.fetch([], None) == []


def test_generations_leave_when_their_time_has_come(writer: Writer) -> None:
    writer.publisher.put("raft", "made of logs")
    first, second = writer.publish(drop_at=10.0), writer.publish(drop_at=20.0)

    writer.archive.drop(10.0, at_most=5)

    assert writer.archive.find(first) is None
    assert writer.archive.find(second) is not None


def test_the_oldest_leave_first_when_there_are_too_many(writer: Writer) -> None:
    writer.publisher.put("raft", "made of logs")
    generations = [writer.publish() for _ in range(4)]

    writer.archive.drop(0.0, at_most=2)

    held = [number for number in generations if writer.archive.find(number) is not None]
    assert held == generations[2:]


def test_generations_share_their_segments(writer: Writer) -> None:
    writer.publisher.put("raft", "made of logs")
    first = writer.publish(drop_at=10.0)
    writer.publisher.put("kayak", "paddled")
    second = writer.publish(drop_at=20.0)
    one, other = writer.archive.find(first), writer.archive.find(second)
    assert one is not None
    assert other is not None

    assert one.segments[0] is other.segments[0]
    assert len(other.segments) == 2
