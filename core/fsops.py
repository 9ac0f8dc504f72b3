"""The only place that writes durable files; the order of writes and syncs survives a crash.

A file's content is durable after `fsync` of the file, its name after `fsync` of its directory.
Errors of the operating system become StorageFull (the disk is full) or TriremeError, with the cause
kept. After a failed sync the written file must be given up: the kernel may have dropped its pages.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import StorageFull, TriremeError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError inside the block into one of ours that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"no space left for {path}", remedy="free disk space") from error
        raise TriremeError(f"cannot write {path}: {error.strerror}") from error


def temporary_path(path: Path) -> Path:
    """Beside a path, what this thread alone uses until the content is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")


def make_directory(path: Path) -> None:
    """Makes a directory with its parents, each new name durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with storage_errors(path):
        path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Writes a new file and syncs its content; the caller syncs the directory.

    Raises FileExistsError if the name is taken.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise
    except OSError:
        with storage_errors(path):
            raise
    with storage_errors(path), os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def create_file(path: Path, data: bytes) -> None:
    """Makes a new file, whole or not at all, durable with its name.

    Raises FileExistsError if the name is taken.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    write_file(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        with storage_errors(path):
            raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Puts `data` under a name in one step: readers see the old content or the new."""
    temporary = temporary_path(path)
    with storage_errors(path):
        temporary.unlink(missing_ok=True)
    try:
        write_file(temporary, data)
        with storage_errors(path):
            temporary.replace(path)
    except TriremeError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def link_file(source: Path, target: Path) -> None:
    """Gives an immutable file a second name, by a hard link or, where there are none, by a copy.

    An existing target is left as it is. The name is not synced; a copy's content is.
    """
    with storage_errors(target):
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary = temporary_path(target)
            shutil.copyfile(source, temporary)
            sync_file(temporary)
            temporary.replace(target)


def sync_file(path: Path) -> None:
    """Makes the content of a file durable."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def remove_tree(path: Path) -> None:
    """Removes a directory and all below it, if it is there, and makes that durable."""
    with storage_errors(path):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
    sync_directory(path.parent)


def _sync(path: Path, flags: int) -> None:
    with storage_errors(path):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
