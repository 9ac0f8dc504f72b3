"""How long filters take over many documents, as parts of reading one column of numbers.

    python -m tests.load.filters [--documents 1000000]

Prints milliseconds, and times in units of comparing one float64 column with a number, which is as
little as any filter can cost; absolute times depend on the machine and on what else runs there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from core.filters.columns import ATTRIBUTES, AttributeColumns
from core.filters.filtering import DocumentFilter
from core.filters.parsing import parse

FILTERS = (
    "draft",
    "year >= 2020",
    'lang = "l7"',
    'lang = "l7" AND year >= 2020 AND tags : "t5" AND NOT draft',
    "tags : t1 OR tags : t2",
    'url = "u77"',
    'url = "u7*"',
    'url = "*7*7*"',
    "id = d77",
)
_ROUNDS = 7

Result = TypeVar("Result")


def main() -> None:
    """Builds the columns once and asks every filter several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    count = parser.parse_args().documents
    columns = random_columns(count)
    ids = pa.chunked_array([pa.array([f"d{row}" for row in range(count)], pa.large_string())])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ATTRIBUTES
        columns.write(path)
        opened, open_ms = timed(lambda: AttributeColumns.open(path, count), rounds=1)
        print(f"{count:,} documents, {path.stat().st_size / count:.0f} bytes each")
        print(f"opened in {open_ms:.1f} ms")
        years = next(column for _, column in opened.of_name("year")).values
        _, unit = timed(lambda: years >= 2020.5)
        print(f"one column compared in {unit:.2f} ms")
        for text in FILTERS:
            report(text, opened, ids, unit)


def random_columns(count: int) -> AttributeColumns:
    """Attributes as a corpus has them; one string differs in every document."""
    chance = np.random.default_rng(0)
    languages, years = chance.integers(40, size=count), chance.integers(1990, 2026, size=count)
    drafts, tags = chance.integers(2, size=count), chance.integers(40, size=(count, 2))
    return AttributeColumns.of(
        [
            {
                "lang": f"l{languages[row]}",
                "year": float(years[row]),
                "draft": bool(drafts[row]),
                "tags": tuple(f"t{tag}" for tag in tags[row]),
                "url": f"u{row}",
            }
            for row in range(count)
        ]
    )


def report(text: str, columns: AttributeColumns, ids: pa.ChunkedArray, unit: float) -> None:
    """Times one filter, evaluated anew and remembered."""
    node = parse(text)
    assert node is not None

    def anew() -> int:
        fresh = DocumentFilter(lambda: columns, ids, is_stored=True)
        return int(np.count_nonzero(fresh.matching(node)))

    known = DocumentFilter(lambda: columns, ids, is_stored=True)
    known.matching(node)
    matching, first = timed(anew)
    _, again = timed(lambda: known.matching(node))
    share = matching / columns.documents
    times = f"{first:7.1f} ms = {first / unit:5.1f} x, remembered {again / unit:4.1f} x"
    print(f"{times}, matches {share:7.2%}  {text}")


def timed(call: Callable[[], Result], *, rounds: int = _ROUNDS) -> tuple[Result, float]:
    """The result and the median of its times, in milliseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - started)
    return result, float(np.median(times)) * 1e3


if __name__ == "__main__":
    main()
