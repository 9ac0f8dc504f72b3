"""Files whose content is read again when it changes, as mounted secrets do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from core.errors import BadEnvironment, TriremeError

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Prints = tuple[tuple[int, int, int], ...]

LOOK_SECONDS = 1.0
_NOTHING: Prints = ((0, 0, 0),)


class Watched(Generic[Value]):
    """What `read` makes of some files. What cannot be read later leaves the value as it was.

    A file that changes while it is read counts as not read yet. Symbolic links are followed, so
    that a whole directory may be swapped at once. `setting` is what names the files.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], Value], setting: str) -> None:
        self._paths = tuple(paths)
        self._setting = setting
        self._read = read
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._refused: Prints = ()
        self._prints = self._look_at_files()
        self._value = read()

    @property
    def value(self) -> Value:
        """As of the last look."""
        return self._value

    def current(self, *, within_seconds: float = LOOK_SECONDS) -> Value:
        """The value, after a look at the files unless the last one is not so long ago."""
        if time.monotonic() - self._looked >= within_seconds:
            self.look()
        return self._value

    def look(self) -> None:
        """Reads the files again if they have changed; what is wrong with them stands in the log."""
        with self._lock:
            self._looked = time.monotonic()
            try:
                prints = self._look_at_files()
                if prints == self._prints:
                    return
                value = self._read()
                if self._look_at_files() != prints:
                    return
            except TriremeError as error:
                self._refuse(error)
                return
            self._value, self._prints, self._refused = value, prints, ()
            log.info("files read again", extra={"files": [str(path) for path in self._paths]})

    def _refuse(self, error: TriremeError) -> None:
        try:
            prints = self._look_at_files()
        except BadEnvironment:
            prints = _NOTHING
        if prints != self._refused:
            log.error(
                "changed files refused",
                extra={"files": [str(path) for path in self._paths], "why": str(error)},
            )
        self._refused = prints

    def _look_at_files(self) -> Prints:
        return tuple(_print_of(path, self._setting) for path in self._paths)


def read_file(path: Path, field: str) -> bytes:
    """The content of a file; raises BadEnvironment naming the setting `field`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, field, error) from error


def _print_of(path: Path, setting: str) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unreadable(path: Path, field: str, error: OSError) -> BadEnvironment:
    return BadEnvironment(
        f"{path} cannot be read: {error.strerror}",
        field=field,
        remedy="name a file that this process may read",
    )
