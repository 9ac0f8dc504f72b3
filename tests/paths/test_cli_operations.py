"""The commands of operators, as people use them."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.__main__ import main
from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import write_lines
from trireme.v1 import collection_pb2

ROWS = tuple({"_id": f"d{n}", "text": f"ship number {n}"} for n in range(6))


async def trireme(*arguments: str, journals: Path) -> tuple[int, str, str]:
    """Runs the command in this process; returns exit code, standard output and standard error."""
    runner = CliRunner(env={"TRIREME_JOURNALS": str(journals), "COLUMNS": "120"})
    result = await asyncio.to_thread(runner.invoke, main, arguments)
    return result.exit_code, result.stdout, result.stderr


async def test_aliases_are_set_listed_and_deleted(
    family: Family, collection: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    alias = f"best-{uuid.uuid4().hex[:12]}"
    file = write_lines(tmp_path / "ships.jsonl", *ROWS)

    code, output, _ = await trireme("aliases", "set", alias, collection, *at, journals=tmp_path)
    assert (code, output.split()) == (0, [alias, "stands", "for", collection])
    assert (await trireme("aliases", "set", alias, collection, *at, journals=tmp_path))[0] == 0
    code, output, _ = await trireme("index", alias, str(file), *at, journals=tmp_path)
    assert (code, "6 documents stored" in output) == (0, True)
    _, output, _ = await trireme("search", alias, "ship", "--json", *at, journals=tmp_path)
    assert len(json.loads(output)["hits"]) == 6
    _, output, _ = await trireme("aliases", "list", "--json", *at, journals=tmp_path)
    assert (alias, collection) in [(a["name"], a["collection"]) for a in json.loads(output)]
    _, output, _ = await trireme("status", *at, journals=tmp_path)
    assert f"also {alias}" in output

    assert (await trireme("aliases", "delete", alias, *at, journals=tmp_path))[0] == 0
    code, _, errors = await trireme("search", alias, "ship", *at, journals=tmp_path)
    assert code == 1
    assert "COLLECTION_NOT_FOUND" in errors


@pytest.mark.parametrize(("verb", "done"), [("rebuild", "rebuilt"), ("compact", "compacted")])
async def test_an_index_is_tended_while_it_is_searched(
    family: Family, collection: str, tmp_path: Path, verb: str, done: str
) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / "ships.jsonl", *ROWS)
    assert (await trireme("index", collection, str(file), *at, journals=tmp_path))[0] == 0
    before = await family.search(collection, "ship number 3")

    code, output, errors = await trireme("index", verb, collection, *at, journals=tmp_path)

    assert (code, errors) == (0, "")
    assert f"{collection} is {done}, 2 shards" in " ".join(output.split())
    after = await family.search(collection, "ship number 3")
    assert [hit.document.id for hit in after.hits] == [hit.document.id for hit in before.hits]
    code, output, _ = await trireme("status", collection, *at, journals=tmp_path)
    assert code == 0
    assert "6 documents" in output


async def test_a_collection_may_be_called_like_a_command(family: Family, tmp_path: Path) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / "ships.jsonl", *ROWS)

    code, output, errors = await trireme(
        "index", *at, "--", "compact", str(file), journals=tmp_path
    )

    assert (code, errors) == (0, "")
    assert "6 documents stored in compact" in output
    found = await family.search("compact", "ship")
    assert len(found.hits) == 6
    code, output, _ = await trireme("index", "--", "compact", str(file), *at, journals=tmp_path)
    assert code == 2, "after -- there are only names"
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name="compact"), timeout=SECONDS
    )


async def test_a_quarantine_that_is_empty_says_so(
    family: Family, collection: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)

    code, output, _ = await trireme("quarantine", "list", collection, *at, journals=tmp_path)
    assert (code, "is set aside" in output) == (0, True)
    code, output, _ = await trireme(
        "quarantine", "retry", collection, "--all", *at, journals=tmp_path
    )
    assert (code, output.split()[0]) == (0, "0")
    code, _, errors = await trireme("quarantine", "retry", collection, *at, journals=tmp_path)
    assert code == 2
    assert "--all" in errors
