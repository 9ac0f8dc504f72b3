"""A bucket that is slow, broken, wrong or far away, and the copies that a process keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import BadEnvironment, CorruptFile, IndexStoreUnavailable
from core.index_store import CollectionEntry
from core.index_store.bucket import Bucket, split_url
from core.index_store.cache import Cache
from core.index_store.engine import sha256_of_file
from core.manifest import FileEntry
from tests.contract.test_index_engines import manifest
from tests.fakes.fault_proxy import CUT, DROP, GARBLE, REFUSE, Fault, FaultProxy, proxied
from tests.servers import s3
from tests.servers.index_engines import Place, servers

CONTENT = bytes(range(256)) * 64


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, s3.S3Server]]:
    with servers(tmp_path_factory) as found:
        yield found


@pytest.fixture
def proxy(started: dict[str, s3.S3Server]) -> Iterator[FaultProxy]:
    with proxied(started["moto"].endpoint) as found:
        yield found


@pytest.fixture
def place(proxy: FaultProxy, started: dict[str, s3.S3Server], tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path, proxy.endpoint, started["moto"].new_url())
    yield found
    found.free_caches()


def store_one(place: Place, folder: Path, content: bytes = CONTENT) -> FileEntry:
    (folder / "f").write_bytes(content)
    (entry,) = place.shard().put_files([folder / "f"])
    (folder / "f").unlink()
    return entry


@pytest.mark.parametrize("name", ["moto", "s3rver"])
def test_whether_creation_is_conditional_is_found_out(
    started: dict[str, s3.S3Server], name: str
) -> None:
    server = started[name]
    bucket = Bucket.create(server.new_url(), endpoint=server.endpoint, region=s3.REGION)

    assert bucket.is_conditional == server.is_conditional
    assert bucket.listed("") == []


def test_wrong_credentials_are_named_without_telling_them(
    started: dict[str, s3.S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = started["s3rver"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-knows-me")
    bucket = Bucket.create(server.new_url(), endpoint=server.endpoint, region=s3.REGION)

    for call in (
        lambda: bucket.get("a"),
        lambda: bucket.put("a", b"1", 1),
        lambda: bucket.listed(""),
    ):
        with pytest.raises(BadEnvironment, match=r"InvalidAccessKeyId.*AWS_ACC") as caught:
            call()
        assert "nobody-knows-me" not in str(caught.value)
        assert s3.SECRET not in caught.value.message.replace(server.endpoint, "")


def test_a_bucket_that_is_not_there_is_named(started: dict[str, s3.S3Server]) -> None:
    endpoint = started["moto"].endpoint
    bucket = Bucket.create("s3://no-such-bucket/x", endpoint=endpoint, region=s3.REGION)

    for call in (lambda: bucket.get("a"), lambda: bucket.listed("")):
        with pytest.raises(BadEnvironment, match=r"no-such-bucket.*not there"):
            call()


@pytest.mark.parametrize("url", ["", "trireme", "s3://", "http://bucket/x", "s3://bucket//x"])
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(BadEnvironment, match="give s3://bucket/prefix"):
        split_url(url)


def test_a_store_that_does_not_answer_is_unavailable(place: Place, proxy: FaultProxy) -> None:
    proxy.faults = [Fault(REFUSE, "GET", times=1000)]

    with pytest.raises(IndexStoreUnavailable, match="SlowDown"):
        place.shard(seconds=0.2).read_current()


def test_a_short_outage_is_waited_out(place: Place, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.faults = [Fault(REFUSE, "PUT", times=2), Fault(REFUSE, "HEAD")]
    entry = store_one(place, tmp_path)
    proxy.faults = [Fault(REFUSE, "GET", times=2)]

    assert place.shard().verify(entry).read_bytes() == CONTENT
    assert proxy.faults == []


@pytest.mark.parametrize("kind", [CUT, GARBLE])
def test_a_damaged_transfer_is_made_again(
    place: Place, proxy: FaultProxy, tmp_path: Path, kind: str
) -> None:
    entry = store_one(place, tmp_path)
    proxy.faults = [Fault(kind, "GET", entry.sha256)]

    assert place.shard().verify(entry).read_bytes() == CONTENT
    assert proxy.faults == []


def test_a_transfer_that_is_always_damaged_is_given_up(
    place: Place, proxy: FaultProxy, tmp_path: Path
) -> None:
    entry = store_one(place, tmp_path)
    proxy.faults = [Fault(GARBLE, "GET", entry.sha256, times=1000)]
    shard = place.shard(cache="reader")

    with pytest.raises(CorruptFile, match="f "):
        shard.verify(entry)

    assert [path.name for path in (tmp_path / "reader").iterdir()] == ["lock"]


def test_a_creation_whose_answer_was_lost_is_looked_up(place: Place, proxy: FaultProxy) -> None:
    shard = place.shard(seconds=0.2)
    shard.write_manifest(manifest(1))
    proxy.faults = [Fault(DROP, "PUT", "000000000002-")]

    shard.write_manifest(manifest(2))

    assert proxy.faults == []
    assert shard.manifests() == [manifest(1), manifest(2)]


def test_a_damaged_copy_here_is_fetched_again(
    place: Place, proxy: FaultProxy, tmp_path: Path
) -> None:
    entry = store_one(place, tmp_path)
    copy = place.shard(cache="shard").verify(entry)
    place.free_caches()
    copy.write_bytes(b"rotten")

    assert place.shard(cache="shard").verify(entry).read_bytes() == CONTENT


def test_a_copy_that_vanished_is_fetched_again(place: Place, tmp_path: Path) -> None:
    entry = store_one(place, tmp_path)
    shard = place.shard()
    shard.verify(entry).unlink()

    assert shard.verify(entry).read_bytes() == CONTENT


def test_a_restart_reads_its_copies_and_no_file_of_the_bucket(
    place: Place, proxy: FaultProxy, tmp_path: Path
) -> None:
    entry = store_one(place, tmp_path)
    place.shard(cache="shard").verify(entry)
    place.free_caches()
    (tmp_path / "shard" / f"{entry.sha256}.7.part").write_bytes(b"half")
    proxy.seen.clear()

    place.shard(cache="shard").verify(entry)

    assert proxy.seen == []
    assert {path.name for path in (tmp_path / "shard").iterdir()} == {"lock", entry.sha256}


def test_looking_costs_one_listing_however_many_collections(
    place: Place, proxy: FaultProxy
) -> None:
    store = place.create()
    for number in range(5):
        store.create_collection(CollectionEntry(f"c{number}", f"uid-{number}", 1))
        store.shard(f"uid-{number}", 0).set_current(manifest(1))
    reader = place.open()
    reader.collections()
    proxy.seen.clear()

    reader.read_names()
    marks = [reader.shard(entry.uid, 0).current_mark() for entry in reader.collections()]

    assert None not in marks
    assert len(marks) == 5
    assert proxy.count("GET") <= 1


def test_copies_that_nobody_needs_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.index_store.cache.HANDED_OUT_SECONDS", 0.0)
    cache = Cache.create(tmp_path / "cache", most_bytes=25)
    entries = []
    for number in range(4):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * 10)
        entries.append(_entry(path))
        if number == 0:
            cache.keep("uid/0", entries)
        cache.take(path, entries[-1])

    kept = [cache.find(entry) is not None for entry in entries]

    assert kept == [True, False, False, True]
    assert (cache.size, cache.evictions) == (20, 2)


def test_copies_just_handed_out_stay_above_the_bound(tmp_path: Path) -> None:
    cache = Cache.create(tmp_path / "cache", most_bytes=0)
    (tmp_path / "f").write_bytes(b"1")

    cache.take(tmp_path / "f", _entry(tmp_path / "f"))

    assert cache.find(_entry(tmp_path / "f")) is not None


def test_a_directory_of_copies_belongs_to_one_process(tmp_path: Path) -> None:
    Cache.create(tmp_path, 1)

    with pytest.raises(BadEnvironment, match="a directory of its own"):
        Cache.create(tmp_path, 1)


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.name, path.stat().st_size, sha256_of_file(path))
