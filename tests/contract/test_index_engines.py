"""A directory and buckets of real servers keep an index store alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import CorruptFile, Fenced, SnapshotExists, TriremeError
from core.index_store import CollectionEntry, IndexStore, ShardStore
from core.index_store.sweeping import sweep
from core.index_store.verification import verify
from core.manifest import FileEntry, Manifest
from indexer.snapshots.archive import Archive
from indexer.snapshots.manifest import SnapshotManifest
from tests.fakes.publisher import ENCODER, Publisher
from tests.servers import s3
from tests.servers.index_engines import ENGINES, Place, Raw, servers

SHIPS = CollectionEntry("ships", "uid-1", 1)
FILE = "uid-1/0/files/"
SNAPSHOT = SnapshotManifest("s", "ships", "uid-1", 1, 0, "{}", ())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, s3.S3Server]]:
    with servers(tmp_path_factory) as found:
        yield found


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest, started: dict[str, s3.S3Server]) -> s3.S3Server | None:
    return None if request.param == "directory" else started[request.param]


@pytest.fixture
def place(tmp_path: Path, server: s3.S3Server | None) -> Place:
    if server is None:
        return Place(tmp_path)
    return Place(tmp_path, server.endpoint, server.new_url())


@pytest.fixture
def raw(place: Place, server: s3.S3Server | None) -> Raw:
    return Raw(place, server)


@pytest.fixture
def writer(place: Place) -> IndexStore:
    store = place.create()
    store.create_collection(SHIPS)
    return store


@pytest.fixture
def shard(writer: IndexStore) -> ShardStore:
    return writer.shard("uid-1", 0)


def reader(place: Place) -> ShardStore:
    return place.open().shard("uid-1", 0)


def manifest(generation: int, *files: FileEntry, epoch: int = 1, sequence: int = 0) -> Manifest:
    return Manifest(
        uid="uid-1",
        collection="ships",
        shard=0,
        shard_count=1,
        epoch=epoch,
        generation=generation,
        sequence=sequence,
        chain="0" * 64,
        previous="",
        encoder=ENCODER,
        segments=(),
        lexical=files,
        documents=0,
        passages=0,
        created_at=1.0,
    )


def put(shard: ShardStore, folder: Path, name: str, content: bytes) -> FileEntry:
    (folder / name).write_bytes(content)
    (entry,) = shard.put_files([folder / name])
    (folder / name).unlink()
    return entry


def test_a_file_outlives_its_source_and_its_writer(
    place: Place, shard: ShardStore, tmp_path: Path
) -> None:
    entry = put(shard, tmp_path, "vectors.faiss", b"content")

    assert (entry.name, entry.size) == ("vectors.faiss", len(b"content"))
    assert reader(place).verify(entry).read_bytes() == b"content"


def test_a_small_file_and_an_empty_one_are_stored_too(place: Place, shard: ShardStore) -> None:
    small, empty = shard.put_bytes("dead.bits", b"\1"), shard.put_bytes("none", b"")

    assert reader(place).verify(small).read_bytes() == b"\1"
    assert reader(place).verify(empty).read_bytes() == b""


def test_a_file_larger_than_one_part_arrives_whole(
    place: Place, shard: ShardStore, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (40 * 1024)
    entry = put(shard, tmp_path, "large", content)

    assert reader(place).verify(entry).read_bytes() == content


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "remove"])
def test_a_damaged_file_is_refused_and_healed_by_its_content(
    place: Place, shard: ShardStore, raw: Raw, tmp_path: Path, damage: str
) -> None:
    entry = put(shard, tmp_path, "f", b"content")
    key = FILE + entry.sha256
    if damage == "remove":
        raw.remove(key)
    else:
        raw.write(key, {"flip": b"Content", "truncate": b"conten", "extend": b"content "}[damage])

    with pytest.raises(CorruptFile, match="f "):
        reader(place).verify(entry)
    with pytest.raises(CorruptFile):
        shard.check(entry)

    assert put(place.create().shard("uid-1", 0), tmp_path, "f", b"content") == entry
    assert reader(place).verify(entry).read_bytes() == b"content"


def test_known_files_are_not_stored_again(shard: ShardStore, tmp_path: Path) -> None:
    known = put(shard, tmp_path, "x.idx", b"first")
    (tmp_path / "x.idx").write_bytes(b"other")

    assert shard.put_files([tmp_path / "x.idx"], [known]) == (known,)
    assert shard.put_files([tmp_path / "x.idx"]) != (known,)


def test_files_get_their_own_names_for_their_readers(
    place: Place, shard: ShardStore, tmp_path: Path
) -> None:
    entries = [put(shard, tmp_path, name, name.encode()) for name in ("a.idx", "b.idx")]
    (tmp_path / "view").mkdir()

    reader(place).materialise(entries, tmp_path / "view")

    assert {path.name: path.read_bytes() for path in (tmp_path / "view").iterdir()} == {
        "a.idx": b"a.idx",
        "b.idx": b"b.idx",
    }


def test_a_manifest_is_never_overwritten(place: Place, shard: ShardStore) -> None:
    shard.write_manifest(manifest(1))
    shard.write_manifest(manifest(1))

    with pytest.raises(Fenced):
        place.create().shard("uid-1", 0).write_manifest(manifest(1, sequence=7))

    assert shard.manifests() == [manifest(1)]


def test_every_step_of_publishing_may_be_the_last(
    place: Place, shard: ShardStore, tmp_path: Path
) -> None:
    assert reader(place).read_current() is None
    entry = put(shard, tmp_path, "f", b"content")
    assert reader(place).manifests() == []

    shard.write_manifest(manifest(1, entry))
    assert reader(place).read_current() is None
    assert reader(place).manifests() == [manifest(1, entry)]

    shard.set_current(manifest(1, entry))
    assert reader(place).read_current() == manifest(1, entry)

    shard.write_manifest(manifest(2, entry))
    assert reader(place).read_current() == manifest(1, entry)


def test_what_a_dead_publisher_left_stands_in_nobodys_way(
    place: Place, shard: ShardStore, tmp_path: Path
) -> None:
    shard.write_manifest(manifest(1, put(shard, tmp_path, "f", b"content")))

    heir = place.create().shard("uid-1", 0)
    taken_over = manifest(1, put(heir, tmp_path, "f", b"content"), epoch=2)
    heir.write_manifest(taken_over)
    heir.set_current(taken_over)

    assert reader(place).read_current() == taken_over


def test_of_two_that_create_one_manifest_one_wins_where_the_store_can_tell(
    place: Place, writer: IndexStore, server: s3.S3Server | None
) -> None:
    rivals = [place.create().shard("uid-1", 0) for _ in range(2)]
    start = threading.Barrier(2)

    def create(number: int, generation: int) -> bool:
        start.wait()
        try:
            rivals[number].write_manifest(manifest(generation, sequence=number))
        except Fenced:
            return False
        return True

    for generation in range(1, 9):
        with ThreadPoolExecutor(2) as threads:
            succeeded = list(threads.map(create, range(2), [generation] * 2))
        won = [number for number in range(2) if succeeded[number]]

        (stored,) = (each for each in rivals[0].manifests() if each.generation == generation)
        if server is None or server.is_conditional:
            assert won == [stored.sequence]
        else:
            # Such a store cannot tell; the compare-and-set in the document store does.
            assert stored.sequence in won


def test_the_mark_changes_with_the_current_manifest(place: Place, shard: ShardStore) -> None:
    assert reader(place).current_mark() is None
    shard.set_current(manifest(1))
    first = reader(place).current_mark()
    assert first is not None
    assert reader(place).current_mark() == first

    shard.set_current(manifest(2))

    assert reader(place).current_mark() not in (None, first)


@pytest.mark.parametrize("name", ["", "../../x.json", "nothing", "000000000009-000001.json"])
def test_a_current_that_names_no_manifest_is_corrupt(
    place: Place, shard: ShardStore, raw: Raw, name: str
) -> None:
    raw.write("uid-1/0/CURRENT", name.encode())

    with pytest.raises(CorruptFile):
        reader(place).read_current()


def test_manifests_lead_back_one_by_one(place: Place, shard: ShardStore) -> None:
    first = manifest(1)
    second = replace(manifest(2), previous=shard.write_manifest(first))
    shard.write_manifest(second)

    assert reader(place).previous(second) == first
    assert reader(place).previous(first) is None


def test_collections_are_listed_until_they_are_deleted(
    place: Place, writer: IndexStore, raw: Raw
) -> None:
    writer.shard("uid-1", 0).put_bytes("dead.bits", b"1")
    assert place.open().collections() == [SHIPS]

    writer.delete_collection("uid-1")

    assert place.open().collections() == []
    assert not [key for key in raw.present() if key.startswith("uid-1")]


def test_a_half_removed_collection_stays_deleted(
    place: Place, writer: IndexStore, raw: Raw
) -> None:
    raw.write("uid-1/DELETED", b"")

    assert place.open().collections() == []
    place.create().delete_collection("uid-1")
    assert not [key for key in raw.present() if key.startswith("uid-1")]


def test_a_reader_sees_collections_that_come_later(place: Place, writer: IndexStore) -> None:
    readers = place.open()
    assert [entry.name for entry in readers.collections()] == ["ships"]

    writer.create_collection(CollectionEntry("boats", "uid-2", 1))

    assert {entry.name for entry in place.open().collections()} == {"ships", "boats"}


def test_names_are_told_in_one_step(place: Place, writer: IndexStore) -> None:
    assert place.open().read_names() is None

    writer.write_names(b"{}")
    writer.write_names(b'{"revision": 2}')

    assert place.open().read_names() == b'{"revision": 2}'


def test_a_newer_format_and_a_damaged_one_are_refused(place: Place, raw: Raw) -> None:
    place.create()
    for content in (b'{"format": 99}', b"{"):
        raw.write("format.json", content)
        with pytest.raises(TriremeError, match="format"):
            place.open()


def test_garbage_is_what_no_retained_manifest_needs(
    place: Place, shard: ShardStore, raw: Raw, tmp_path: Path
) -> None:
    files = [put(shard, tmp_path, f"f{number}", bytes([number])) for number in range(4)]
    for generation, file in enumerate(files, start=1):
        shard.write_manifest(manifest(generation, file))
        shard.set_current(manifest(generation, file))
    shard.write_manifest(manifest(5, files[0]))
    before = raw.present()

    planned = shard.collect_garbage(keep=2, minimum_age_seconds=-60, dry_run=True)
    assert raw.present() == before
    done = shard.collect_garbage(keep=2, minimum_age_seconds=-60)

    assert done == planned
    assert before - raw.present() == set(done.keys)
    assert [each.generation for each in shard.manifests()] == [3, 4, 5]
    assert {FILE + file.sha256 for file in (files[0], *files[2:])} <= raw.present()
    assert FILE + files[1].sha256 not in raw.present()
    # Three manifests and three files stay; two manifests and a file of one byte go.
    assert (len(done.keys), done.kept_files) == (2 + 1, 3 + 3)
    assert done.removed_bytes == 1 + sum(len(manifest(n, files[n - 1]).to_bytes()) for n in (1, 2))


def test_young_files_are_no_garbage(shard: ShardStore, tmp_path: Path) -> None:
    put(shard, tmp_path, "orphan", b"1")
    shard.write_manifest(manifest(1))
    shard.set_current(manifest(1))

    assert shard.collect_garbage(keep=1, minimum_age_seconds=3600).keys == ()


def test_every_kind_of_file_of_a_generation_is_verified(place: Place, raw: Raw) -> None:
    publisher = Publisher(place.location())
    publisher.put("a", "a galley")
    publisher.put("b", "a raft")
    publisher.publish()
    publisher.delete("b")
    publisher.publish()
    assert publisher.manifest is not None
    report = verify(place.open())
    assert (report.damages, report.files) == ([], len(publisher.files()))

    files = [FILE + file.sha256 for file in publisher.files() if file.size]
    manifest_key = f"uid-1/0/manifests/{publisher.manifest.name}"
    for key in (manifest_key, "uid-1/0/CURRENT", files[0], files[-1]):
        good = raw.read(key)
        raw.write(key, good[:-1] + bytes([good[-1] ^ 1]))
        assert not verify(place.open()).is_sound, key
        raw.write(key, good)
    raw.remove(files[0])
    assert not verify(place.open()).is_sound


def test_what_removed_collections_and_snapshots_left_is_swept_up(
    place: Place, raw: Raw, shard: ShardStore, tmp_path: Path
) -> None:
    file = put(shard, tmp_path, "f", b"content")
    shard.write_manifest(manifest(1, file))
    shard.set_current(manifest(1, file))
    kept = raw.present()
    raw.write("uid-2/0/files/" + "a" * 64, b"of a removed collection")
    raw.write("uid-2/DELETED", b"")
    raw.write("snapshots/half/files/" + "b" * 64, b"documents")
    left = raw.present() - kept

    assert sweep(place.open(), minimum_age_seconds=3600).keys == ()
    planned = sweep(place.open(), minimum_age_seconds=-60, dry_run=True)
    assert set(planned.keys) == left
    assert sweep(place.create(), minimum_age_seconds=-60) == planned
    assert raw.present() == kept


def test_a_snapshot_is_there_from_its_manifest_on(place: Place, raw: Raw, tmp_path: Path) -> None:
    archive = Archive(place.create().engine)
    (tmp_path / "documents").write_bytes(b"lines")
    files = archive.store("s", [tmp_path / "documents"])
    assert Archive(place.open().engine).every() == []

    archive.publish(replace(SNAPSHOT, files=files))

    reader = Archive(place.open().engine)
    assert reader.every() == [replace(SNAPSHOT, files=files)]
    assert [path.read_bytes() for path in reader.fetch(reader.read("s"))] == [b"lines"]
    with pytest.raises(SnapshotExists):
        archive.publish(replace(SNAPSHOT, documents=2))
    archive.delete("s")
    assert not [key for key in raw.present() if key.startswith("snapshots")]
