"""`trireme snapshot` and what `trireme index` does to files, as a person uses them."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli.__main__ import main
from tests.paths.conftest import SECONDS, Family
from trireme.v1 import collection_pb2, document_pb2


async def trireme(family: Family, *words: str) -> Result:
    """The command's result, asked of the family's gateway."""
    environment = {"TRIREME_ADDRESS": family.cluster.address, "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, main, words, env=environment)


async def said(family: Family, *words: str) -> str:
    """What a command that must succeed says."""
    result = await trireme(family, *words)
    assert result.exit_code == 0, result.output
    return result.output


async def drop(family: Family, name: str) -> None:
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )


async def test_a_snapshot_is_made_listed_restored_and_removed(
    family: Family, collection: str
) -> None:
    await family.put(collection, a="a galley", b="a raft")
    name, copy = f"s-{uuid.uuid4().hex[:8]}", f"c-{uuid.uuid4().hex[:8]}"

    assert f"2 documents of {collection}" in await said(
        family, "snapshot", "create", name, collection
    )
    assert name in await said(family, "snapshot", "list")
    assert f"2 documents in {copy}" in await said(family, "snapshot", "restore", name, copy)
    twice = await trireme(family, "snapshot", "restore", name, copy)
    assert (twice.exit_code, "COLLECTION_EXISTS" in twice.output) == (1, True)
    await said(family, "snapshot", "delete", name)
    assert name not in await said(family, "snapshot", "list")
    await drop(family, copy)


async def test_documents_survive_export_and_import(
    family: Family, collection: str, tmp_path: Path
) -> None:
    documents = [
        document_pb2.Document(
            id=f"d{number}",
            title=f"Galley {number}",
            text="is rowed",
            attributes={
                "year": document_pb2.AttributeValue(number_value=1900 + number),
                "seaworthy": document_pb2.AttributeValue(bool_value=True),
                "tags": document_pb2.AttributeValue(
                    strings_value=document_pb2.StringList(values=["a", "b"])
                ),
            },
        )
        for number in range(250)
    ]
    await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=collection, documents=documents),
        timeout=SECONDS,
    )
    file, copy = tmp_path / "ships.jsonl.gz", f"c-{uuid.uuid4().hex[:8]}"

    assert "250 documents" in await said(family, "index", "export", collection, str(file))
    await said(family, "index", "import", copy, str(file))

    with gzip.open(file, "rt") as lines:
        assert len({json.loads(line)["_id"] for line in lines}) == 250
    request = document_pb2.GetDocumentRequest(collection=copy, id="d7")
    found = (await family.documents.GetDocument(request, timeout=SECONDS)).document
    assert (found.title, found.text) == ("Galley 7", "is rowed")
    assert found.attributes == documents[7].attributes
    await drop(family, copy)


async def test_a_running_index_is_verified_and_cleared(family: Family, collection: str) -> None:
    position = await family.put(collection, a="a galley", b="a raft")
    await family.search(collection, "galley", min_position=position)
    index = family.cluster.config.state / "index"
    place = ("--index", str(index))

    assert "sound" in await said(family, "index", "verify", collection, *place)
    report = json.loads(await said(family, "index", "verify", "--json", collection, *place))
    assert (report["collections"], report["damages"]) == (1, [])
    assert " would go" in await said(family, "index", "gc", "--dry-run", *place)

    (uid,) = (
        entry.parent
        for entry in index.glob("*/collection.json")
        if json.loads(entry.read_bytes())["name"] == collection
    )
    current = uid / "0" / "CURRENT"
    name = current.read_bytes()
    current.write_bytes(b"nonsense")
    broken = await trireme(family, "index", "verify", collection, *place)
    current.write_bytes(name)
    assert broken.exit_code == 1
    assert "CURRENT" in "".join(broken.output.split()), broken.output


@pytest.mark.parametrize("command", ["verify", "gc"])
async def test_a_place_that_is_none_is_refused(family: Family, command: str) -> None:
    result = await trireme(family, "index", command, "--index", "http://nowhere/x")

    assert result.exit_code == 1
    assert "give s3://bucket/prefix" in result.output
