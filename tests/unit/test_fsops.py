"""What is written is whole and durable, or an error of ours says why it is not."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest

from core import fsops
from core.columns import write_table
from core.errors import StorageFull, TriremeError


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names in the order in which they were synced or renamed."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noting_replace(path: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return events


def test_content_is_synced_before_the_rename_and_the_directory_after_it(
    tmp_path: Path, synced: list[str]
) -> None:
    fsops.replace_file(tmp_path / "CURRENT", b"1")

    assert [event.split(" ")[0] for event in synced] == ["sync", "rename", "sync"]
    assert synced[0].startswith("sync .CURRENT")
    assert synced[1:] == ["rename to CURRENT", f"sync {tmp_path.name}"]


def test_replacing_puts_new_content_in_place_of_old(tmp_path: Path) -> None:
    fsops.replace_file(tmp_path / "CURRENT", b"old")

    fsops.replace_file(tmp_path / "CURRENT", b"new")

    assert (tmp_path / "CURRENT").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]


def test_a_full_disk_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsops.replace_file(tmp_path / "CURRENT", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull) as caught:
        fsops.replace_file(tmp_path / "CURRENT", b"new")

    assert isinstance(caught.value.__cause__, OSError)
    assert (tmp_path / "CURRENT").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]


def test_a_created_file_is_never_overwritten(tmp_path: Path) -> None:
    fsops.create_file(tmp_path / "manifest", b"first")

    with pytest.raises(FileExistsError):
        fsops.create_file(tmp_path / "manifest", b"second")

    assert (tmp_path / "manifest").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest"]


def test_what_a_crash_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    fsops.temporary_path(tmp_path / "CURRENT").write_bytes(b"half")

    fsops.replace_file(tmp_path / "CURRENT", b"whole")

    assert (tmp_path / "CURRENT").read_bytes() == b"whole"


def test_a_linked_file_is_one_file_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")

    fsops.link_file(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").samefile(tmp_path / "a")


def test_without_hard_links_a_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"content")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    fsops.link_file(tmp_path / "a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == b"content"
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_a_missing_source_is_an_error_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(TriremeError) as caught:
        fsops.link_file(tmp_path / "absent", tmp_path / "b")

    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_each_new_directory_is_made_durable_in_its_parent(
    tmp_path: Path, synced: list[str]
) -> None:
    fsops.make_directory(tmp_path / "a" / "b")

    assert synced == [f"sync {tmp_path.name}", "sync a"]


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    fsops.remove_tree(tmp_path / "absent")

    assert list(tmp_path.iterdir()) == []


def test_a_table_that_does_not_fit_is_not_left_open() -> None:
    table = pa.table({"numbers": range(1000)})

    with pytest.raises(StorageFull) as raised:
        write_table(table, Path("/dev/full"))

    assert raised.tb is not None  # and with it all that was at hand when it was raised
    opened = {os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}
    assert "/dev/full" not in opened
