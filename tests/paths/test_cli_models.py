"""The `trireme` command over collections on models of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import SHIPS, trireme, write_lines
from trireme.v1 import collection_pb2

MODELS = ("--encoder", "bi_dot:1", "--sparse-encoder", "sparse_encoder", "--dimensions", "32")


@pytest_asyncio.fixture
async def name(family: Family) -> AsyncIterator[str]:
    """A name that no collection has; what is made under it is removed."""
    name = f"c-{uuid.uuid4().hex[:12]}"
    yield name
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )


async def test_a_collection_is_made_with_the_models_that_are_named(
    family: Family, name: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / "ships.jsonl", *SHIPS)

    code, _, errors = await trireme("index", name, str(file), *MODELS, *at, journals=tmp_path)
    assert (code, errors) == (0, "")

    code, output, _ = await trireme("status", name, *at, journals=tmp_path)
    assert code == 0
    assert "bi_dot:1 32d dot + sparse_encoder:1" in " ".join(output.split())

    code, output, _ = await trireme(
        "search", name, "oarsmen", "--mode", "sparse", "--explain", *at, journals=tmp_path
    )
    assert code == 0
    assert "galley" in output
    assert "encode sparse" in output

    code, output, _ = await trireme("search", name, "oarsmen", "--json", *at, journals=tmp_path)
    reply = json.loads(output)
    assert reply["encoder"]["model"] == "bi_dot"
    assert reply["sparse_encoder"]["model"] == "sparse_encoder"
    assert set(reply["hits"][0]["provenance"]) >= {"dense", "lexical", "sparse"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--encoder", "bi_encoder"), "was made with --encoder bi_dot:1"),
        (("--encoder", "bi_dot:2"), "was made with --encoder bi_dot:1"),
        (("--dimensions", "64"), "was made with --dimensions 32"),
    ],
)
async def test_another_choice_for_a_collection_that_is_there_is_refused(
    family: Family, name: str, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / "ships.jsonl", *SHIPS)
    await trireme("index", name, str(file), *MODELS, *at, journals=tmp_path)

    code, _, errors = await trireme("index", name, str(file), *options, *at, journals=tmp_path)
    said = " ".join(errors.split())

    assert code == 1
    assert problem in said
    assert "MODEL_MISMATCH" in said


async def test_the_sparse_leg_is_measured_like_the_others(family: Family, tmp_path: Path) -> None:
    folder = tmp_path / "weighed"
    (folder / "qrels").mkdir(parents=True)
    words = ("apple", "banana", "cherry")
    rows = ({"_id": word, "title": "", "text": f"a {word} is a fruit"} for word in words)
    write_lines(folder / "corpus.jsonl", *rows)
    write_lines(folder / "queries.jsonl", *({"_id": w, "text": f"the {w}"} for w in words))
    judged = "".join(f"{word}\t{word}\t1\n" for word in words)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    report = tmp_path / "report.json"
    options = ("--systems", "sparse,hybrid", "--sparse-encoder", "sparse_encoder")

    code, _, errors = await trireme(
        "eval",
        str(folder),
        *options,
        "--json",
        str(report),
        "--address",
        family.cluster.address,
        journals=tmp_path,
    )

    assert code == 0, errors
    measured = json.loads(report.read_text())["systems"]
    assert set(measured) == {"sparse", "hybrid"}
    assert [system["ndcg@10"] for system in measured.values()] == [1, 1]
    assert [system["degraded"] for system in measured.values()] == [0, 0]
