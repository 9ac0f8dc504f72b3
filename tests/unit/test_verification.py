"""Whatever is damaged in an index store is found, and what nothing needs is cleared away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from core.index_store import IndexStore, Location
from core.index_store.sweeping import sweep
from core.index_store.verification import Verified, verify
from tests.fakes.publisher import Publisher
from tests.load.corruption import Target, undetected


def look(root: Path, **arguments: object) -> Verified:
    return verify(IndexStore(Location(root).engine()), **arguments)  # type: ignore[arg-type]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    publisher = Publisher(tmp_path / "index")
    for number in range(3):
        publisher.put(f"d{number}", f"galley {number}")
        publisher.publish()
    return publisher


@pytest.fixture
def root(tmp_path: Path, publisher: Publisher) -> Path:
    return tmp_path / "index"


def test_random_damages_are_all_found(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    target = Target(tmp_path / "index")

    assert undetected(target, 20, 7, found) == []
    assert found.total() == 20
    assert target.verify().is_sound


def test_a_sound_store_is_counted(root: Path, publisher: Publisher) -> None:
    report = look(root)

    assert report.damages == []
    assert (report.collections, report.shards, report.files) == (1, 1, len(publisher.files()))
    assert report.bytes == sum(file.size for file in publisher.files())


def test_only_the_collections_that_are_named_are_looked_at(root: Path, tmp_path: Path) -> None:
    Publisher(root, "boats", uid="uid-2").publish()

    assert look(root).collections == 2
    assert look(root, only=["boats"]).collections == 1


def test_each_damage_names_its_place(root: Path, publisher: Publisher) -> None:
    publisher.store.path(publisher.files()[0]).unlink()

    (damage,) = look(root).damages

    assert (damage.collection, damage.shard) == ("ships", 0)
    assert publisher.files()[0].name in damage.problem


def test_a_current_turned_back_shows_against_what_is_committed(
    root: Path, publisher: Publisher
) -> None:
    assert publisher.manifest is not None
    older = publisher.store.previous(publisher.manifest)
    assert older is not None
    publisher.store.set_current(older)

    assert look(root, committed={("uid-1", 0): 2}).is_sound
    (damage,) = look(root, committed={("uid-1", 0): 3}).damages
    assert "generation 2, 3 is committed" in damage.problem


def test_a_collection_that_vanished_is_missed(root: Path) -> None:
    assert not look(root, committed={("uid-9", 0): 1}).is_sound

    (root / "uid-1" / "collection.json").unlink()
    assert not look(root).is_sound


def test_a_collection_that_is_being_removed_is_not_missed(root: Path) -> None:
    (root / "uid-1" / "DELETED").touch()

    assert look(root).is_sound


def test_sweeping_leaves_what_is_needed_and_takes_the_rest(
    root: Path, publisher: Publisher, tmp_path: Path
) -> None:
    gone = Publisher(root, "gone", uid="uid-2")
    gone.put("x", "a raft")
    gone.publish()
    (root / "uid-2" / "DELETED").touch()
    orphan = root / "snapshots" / "half" / "files" / ("a" * 64)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"documents")
    kept = root / "snapshots" / "whole"
    (kept / "files").mkdir(parents=True)
    (kept / "manifest.json").write_bytes(b"{}")
    (kept / "files" / ("b" * 64)).write_bytes(b"documents")
    working = root / ".work" / "uid-1-0" / "segment-1" / "vectors.faiss"
    working.parent.mkdir(parents=True)
    working.write_bytes(b"not yet published")
    store = IndexStore.open(root)
    before = {path for path in root.rglob("*") if path.is_file()}

    planned = sweep(store, keep=1, minimum_age_seconds=-60, dry_run=True)
    assert {path for path in root.rglob("*") if path.is_file()} == before
    assert sweep(store, keep=1, minimum_age_seconds=3600).keys == ()
    done = sweep(store, keep=1, minimum_age_seconds=-60)

    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert done == planned
    assert {str(path.relative_to(root)) for path in before} - left == set(done.keys)
    assert not [path for path in left if path.startswith(("uid-2", "snapshots/half"))]
    assert {str(working.relative_to(root)), "snapshots/whole/manifest.json"} <= left
    assert len([path for path in left if path.startswith("snapshots/whole")]) == 2
    assert look(root).is_sound
    assert sweep(store, keep=1, minimum_age_seconds=-60).keys == ()
