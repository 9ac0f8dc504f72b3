"""Damages one file of an index store, in one of the ways in which disks and people do."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096

# What `verify` answers for: all that is published, and what says so.
_PUBLISHED = re.compile(
    r"format\.json|[^./][^/]*/(collection\.json|\d+/(CURRENT|files/.*|manifests/\d.*))"
)


@dataclass(frozen=True, slots=True)
class Corruption:
    """What was done to `path`; `undo` puts back what was there."""

    kind: str
    path: Path
    before: Mapping[Path, bytes]

    def undo(self) -> None:
        """Puts everything back."""
        for path, data in self.before.items():
            _put(path, data)


def files_of(root: Path, needed: set[str]) -> list[Path]:
    """The files below `root` that are published; `needed` names the files and manifests."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return [
        path
        for path in found
        if _PUBLISHED.fullmatch(str(path.relative_to(root)))
        and (path.parent.name not in ("files", "manifests") or path.name in needed)
    ]


def corrupt(files: list[Path], random_numbers: random.Random) -> Corruption:
    """Damages one of the files so that its content is another, or gone."""
    while True:
        kind = random_numbers.choice(["flip", "truncate", "zero page", "swap", "remove"])
        path, other = random_numbers.choice(files), random_numbers.choice(files)
        before = {each: each.read_bytes() for each in (path, other)}
        if kind == "remove":
            path.unlink()
            return Corruption(kind, path, before)
        if kind == "swap":
            after = {path: before[other], other: before[path]}
        else:
            after = {path: _damaged(kind, before[path], random_numbers)}
        if after[path] != before[path]:
            for each, data in after.items():
                _put(each, data)
            return Corruption(kind, path, before)


def _damaged(kind: str, data: bytes, random_numbers: random.Random) -> bytes:
    if not data:
        return data
    place = random_numbers.randrange(len(data))
    if kind == "flip":
        flipped = data[place] ^ (1 << random_numbers.randrange(8))
        return data[:place] + bytes([flipped]) + data[place + 1 :]
    if kind == "truncate":
        return data[:place]
    start = place - place % PAGE
    return data[:start] + bytes(len(data[start : start + PAGE])) + data[start + PAGE :]


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
