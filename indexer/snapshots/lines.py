"""Documents as JSON lines, compressed: one line is one document as it was stored last."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from core import config
from core.errors import BadEnvironment, CorruptFile

PART_BYTES = 64 * 1024 * 1024
"""Bytes of text in one file, about."""


@dataclass(frozen=True, slots=True)
class Line:
    """The newest version of a document; `attributes` is the JSON text that is stored."""

    id: str
    title: str
    text: str
    attributes: str
    version: int
    update_micros: int


def write_parts(lines: Iterable[Line], directory: Path) -> tuple[list[Path], int]:
    """Writes lines into as many files as it takes; returns these and how many lines there were."""
    paths: list[Path] = []
    count = 0
    source = iter(lines)
    while (first := next(source, None)) is not None:
        paths.append(directory / f"documents-{len(paths):05d}.jsonl.gz")
        size = 0
        # Without the time of writing: equal documents give equal files.
        with paths[-1].open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            line: Line | None = first
            while line is not None:
                size += file.write(json.dumps(asdict(line), ensure_ascii=False).encode() + b"\n")
                count += 1
                line = next(source, None) if size < PART_BYTES else None
    return paths, count


def read_part(path: Path) -> Iterator[Line]:
    """The lines of a file; raises CorruptFile at what is none."""
    try:
        with gzip.open(path, "rb") as file:
            for number, text in enumerate(file, start=1):
                yield config.build(Line, json.loads(text), f"line {number}")
    except (OSError, EOFError, zlib.error, ValueError, BadEnvironment) as error:
        raise CorruptFile(f"{path} does not hold documents: {error}") from error
