"""Operators and languages on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import trireme, write_lines
from trireme.v1 import collection_pb2

ROWS = (
    {"_id": "a", "title": "Haus", "text": "am alten See"},
    {"_id": "b", "title": "See", "text": "die alten Häuser"},
)


@pytest_asyncio.fixture
async def name(family: Family, collection: str) -> str:
    return f"{collection}-de"


@pytest.mark.parametrize("query", ['Haus +"alter See"', 'Haus -"alten Häuser"'])
async def test_what_was_understood_is_shown(
    family: Family, name: str, tmp_path: Path, query: str
) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / "a.jsonl", *ROWS)
    chosen = ("--language", "de", "--title-boost", "1")
    code, _, errors = await trireme("index", name, str(file), *chosen, *at, journals=tmp_path)
    assert (code, errors) == (0, "")

    code, output, _ = await trireme(
        "search", name, query, "--syntax", "operators", *at, journals=tmp_path
    )

    assert (code, errors) == (0, "")
    assert "See" in output
    assert 'hold "alte' in output
    assert "die alten Häuser" not in output
    other = ("--language", "fr")
    code, _, errors = await trireme("index", name, str(file), *other, *at, journals=tmp_path)
    assert (code, "--language de" in errors) == (1, True)
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )
