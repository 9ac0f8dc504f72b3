"""Published files are immutable, verified before use, and kept while somebody may need them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import CorruptFile, Fenced, NewerFormat
from core.index_store import CollectionEntry, IndexStore
from core.manifest import FileEntry
from tests.fakes.publisher import Publisher

SHIPS = CollectionEntry("ships", "uid-1", 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def publisher(root: Path) -> Publisher:
    publisher = Publisher(root)
    publisher.put("a", "a galley is rowed")
    publisher.publish()
    return publisher


def fresh(root: Path, publisher: Publisher) -> IndexStore:
    """The store as another process sees it, with nothing verified yet."""
    return IndexStore.open(root)


def damage(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def test_a_store_that_is_not_there_has_no_collections(root: Path) -> None:
    assert IndexStore.open(root).collections() == []


def test_collections_are_listed_until_they_are_deleted(root: Path) -> None:
    writer = IndexStore.create(root)
    writer.create_collection(SHIPS)
    reader = IndexStore.open(root)
    assert reader.collections() == [SHIPS]

    writer.delete_collection(SHIPS.uid)

    assert reader.collections() == []
    assert not (root / SHIPS.uid).exists()


def test_a_half_removed_collection_stays_deleted(root: Path) -> None:
    store = IndexStore.create(root)
    store.create_collection(SHIPS)

    (root / SHIPS.uid / "DELETED").touch()

    assert IndexStore.open(root).collections() == []
    store.delete_collection(SHIPS.uid)
    assert not (root / SHIPS.uid).exists()


def test_a_newer_store_is_refused(root: Path) -> None:
    IndexStore.create(root)
    (root / "format.json").write_text(json.dumps({"format": 2}))

    with pytest.raises(NewerFormat, match="format 2"):
        IndexStore.open(root)


def test_a_reader_notices_a_newer_store_that_appears_later(root: Path) -> None:
    reader = IndexStore.open(root)
    root.mkdir()
    (root / "format.json").write_text(json.dumps({"format": 2}))

    with pytest.raises(NewerFormat):
        reader.collections()


def test_a_stored_file_outlives_its_source(root: Path, tmp_path: Path) -> None:
    store = IndexStore.create(root).shard("uid-1", 0)
    (tmp_path / "vectors.faiss").write_bytes(b"content")

    (entry,) = store.put_files([tmp_path / "vectors.faiss"])
    (tmp_path / "vectors.faiss").unlink()

    assert (entry.name, entry.size) == ("vectors.faiss", len(b"content"))
    assert store.verify(entry).read_bytes() == b"content"


def test_storing_good_content_heals_a_damaged_copy(root: Path, tmp_path: Path) -> None:
    store = IndexStore.create(root).shard("uid-1", 0)
    (tmp_path / "f").write_bytes(b"content")
    (entry,) = store.put_files([tmp_path / "f"])
    (tmp_path / "g").write_bytes(b"content")
    damage(store.path(entry))

    store.put_files([tmp_path / "g"])

    assert store.verify(entry).read_bytes() == b"content"


def test_known_files_are_not_read_again(root: Path, tmp_path: Path) -> None:
    store = IndexStore.create(root).shard("uid-1", 0)
    (tmp_path / "x.idx").write_bytes(b"first")
    known = store.put_files([tmp_path / "x.idx"])
    (tmp_path / "x.idx").unlink()
    (tmp_path / "x.idx").write_bytes(b"other")

    assert store.put_files([tmp_path / "x.idx"], known) == known
    assert store.put_files([tmp_path / "x.idx"]) != known


def test_meta_json_is_always_read_again(root: Path, tmp_path: Path) -> None:
    store = IndexStore.create(root).shard("uid-1", 0)
    (tmp_path / "meta.json").write_bytes(b"first")
    known = store.put_files([tmp_path / "meta.json"])
    (tmp_path / "meta.json").unlink()
    (tmp_path / "meta.json").write_bytes(b"other")

    assert store.put_files([tmp_path / "meta.json"], known) != known


@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_bit_in_any_file_is_found_before_it_is_opened(
    root: Path, publisher: Publisher, position: int
) -> None:
    publisher.put("b", "a raft")
    publisher.delete("a")
    publisher.publish()
    kinds = {entry.name.rsplit(".", 1)[1] for entry in publisher.files()}
    assert kinds >= {"faiss", "arrow", "bits", "idx", "term", "fast", "json"}

    for entry in publisher.files():
        store = fresh(root, publisher).shard("uid-1", 0)
        if entry.size == 0:
            continue
        damage(store.path(entry), position)
        with pytest.raises(CorruptFile, match=entry.name):
            store.verify(entry)
        damage(store.path(entry), position)
        store.verify(entry)


def test_a_missing_file_is_corrupt(root: Path, publisher: Publisher) -> None:
    store = fresh(root, publisher).shard("uid-1", 0)
    store.path(publisher.files()[0]).unlink()

    with pytest.raises(CorruptFile):
        store.verify(publisher.files()[0])


def test_a_file_of_another_size_is_corrupt(root: Path, publisher: Publisher) -> None:
    entry = publisher.files()[0]

    with pytest.raises(CorruptFile):
        fresh(root, publisher).shard("uid-1", 0).verify(replace(entry, size=entry.size + 1))


def test_a_segment_that_is_not_as_the_manifest_says_is_refused(
    root: Path, publisher: Publisher
) -> None:
    assert publisher.manifest is not None
    (entry,) = publisher.manifest.segments

    with pytest.raises(CorruptFile, match="the manifest says"):
        publisher.store.open_segment(replace(entry, documents=2))


def test_nothing_is_current_before_the_first_publication(root: Path) -> None:
    store = IndexStore.create(root).shard("uid-1", 0)

    assert store.read_current() is None
    assert store.current_mark() is None


def test_the_current_manifest_is_the_one_last_set(root: Path, publisher: Publisher) -> None:
    store = fresh(root, publisher).shard("uid-1", 0)
    assert store.read_current() == publisher.manifest
    mark = store.current_mark()

    second = publisher.publish()

    assert store.read_current() == second
    assert store.current_mark() != mark


def test_a_written_manifest_is_not_current_until_it_is_set(
    root: Path, publisher: Publisher
) -> None:
    assert publisher.manifest is not None
    publisher.store.write_manifest(replace(publisher.manifest, generation=2))

    assert fresh(root, publisher).shard("uid-1", 0).read_current() == publisher.manifest


def test_a_manifest_is_never_overwritten(publisher: Publisher) -> None:
    assert publisher.manifest is not None
    publisher.store.write_manifest(publisher.manifest)

    with pytest.raises(Fenced):
        publisher.store.write_manifest(replace(publisher.manifest, sequence=7))

    assert publisher.store.read_current() == publisher.manifest


@pytest.mark.parametrize(
    "name", ["", "../../x.json", "nothing", "\0.json", "000000000009-000001.json"]
)
def test_a_current_that_names_no_manifest_is_corrupt(
    root: Path, publisher: Publisher, name: str
) -> None:
    (root / "uid-1" / "0" / "CURRENT").write_text(name)

    with pytest.raises(CorruptFile):
        publisher.store.read_current()


def test_a_manifest_under_another_name_is_corrupt(root: Path, publisher: Publisher) -> None:
    assert publisher.manifest is not None
    other = replace(publisher.manifest, generation=9).name
    manifests = root / "uid-1" / "0" / "manifests"
    (manifests / publisher.manifest.name).rename(manifests / other)
    (root / "uid-1" / "0" / "CURRENT").write_text(other)

    with pytest.raises(CorruptFile, match="another manifest"):
        publisher.store.read_current()


def test_manifests_lead_back_one_by_one(publisher: Publisher) -> None:
    first = publisher.manifest
    second = publisher.publish()
    third = publisher.publish()

    assert publisher.store.previous(third) == second
    assert publisher.store.previous(second) == first
    assert publisher.store.previous(replace(third, previous="0" * 64)) is None


def test_materialised_files_are_links_under_their_own_names(
    publisher: Publisher, tmp_path: Path
) -> None:
    (tmp_path / "view").mkdir()
    assert publisher.manifest is not None

    publisher.store.materialise(publisher.manifest.lexical, tmp_path / "view")

    for entry in publisher.manifest.lexical:
        assert (tmp_path / "view" / entry.name).samefile(publisher.store.path(entry))


def stored(root: Path) -> set[str]:
    return {path.name for path in (root / "uid-1" / "0" / "files").iterdir()}


def names(files: list[FileEntry]) -> set[str]:
    return {entry.sha256 for entry in files}


def test_garbage_is_what_no_retained_manifest_needs(root: Path, publisher: Publisher) -> None:
    for number in range(4):
        publisher.put(f"d{number}", f"ship {number}")
        publisher.publish()
    last = publisher.merge()
    before = publisher.store.previous(last)
    assert before is not None

    removed = publisher.store.collect_garbage(keep=2, minimum_age_seconds=-60)

    assert removed.keys
    assert stored(root) == names([*last.files(), *before.files()])
    assert publisher.store.manifests() == [before, last]


def test_young_files_are_no_garbage(root: Path, publisher: Publisher) -> None:
    publisher.merge()
    publisher.merge()
    before = stored(root)

    assert publisher.store.collect_garbage(keep=1, minimum_age_seconds=3600).keys == ()
    assert stored(root) == before


def test_manifests_above_the_current_one_are_retained(root: Path, publisher: Publisher) -> None:
    assert publisher.manifest is not None
    ahead = replace(publisher.manifest, generation=2)
    publisher.store.write_manifest(ahead)

    publisher.store.collect_garbage(keep=1, minimum_age_seconds=-60)

    assert publisher.store.manifests() == [publisher.manifest, ahead]


def test_files_taken_away_from_a_reader_stay_readable_while_open(publisher: Publisher) -> None:
    assert publisher.manifest is not None
    segment = publisher.store.open_segment(publisher.manifest.segments[0])
    for entry in publisher.files():
        os.unlink(publisher.store.path(entry))

    assert segment.read(0).document.text == "a galley is rowed"
