"""The `trireme` command, as people use it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths.conftest import Family


async def trireme(*arguments: str, journals: Path) -> tuple[int, str, str]:
    """Runs the command; returns exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"TRIREME_JOURNALS": str(journals), "PATH": "/usr/bin:/bin", "COLUMNS": "120"},
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def json_objects(text: str) -> list[Any]:
    """The JSON values that stand one after another in a text."""
    decoder, found = json.JSONDecoder(), list[Any]()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


SHIPS = (
    {"_id": "galley", "title": "Galley", "text": "rowed by many oarsmen", "year": -500},
    {"id": 7, "text": "a frigate is a warship under sail", "tags": ["war", "sail"], "none": None},
)


@pytest.mark.parametrize("name", ["ships.jsonl", "ships.jsonl.gz"])
async def test_files_are_indexed_and_searched(
    family: Family, collection: str, tmp_path: Path, name: str
) -> None:
    at = ("--address", family.cluster.address)
    file = write_lines(tmp_path / name, *SHIPS)

    code, output, errors = await trireme("index", collection, str(file), *at, journals=tmp_path)
    assert (code, errors) == (0, "")
    assert "2 documents stored" in output

    code, output, _ = await trireme(
        "search", collection, "warship", "--top", "1", "--json", *at, journals=tmp_path
    )
    reply = json.loads(output)
    assert code == 0
    assert [hit["document"]["id"] for hit in reply["hits"]] == ["7"]
    assert reply["hits"][0]["document"]["attributes"]["tags"]["strings_value"]["values"] == [
        "war",
        "sail",
    ]

    code, output, _ = await trireme(
        "search", collection, "rowed oarsmen", "--explain", *at, journals=tmp_path
    )
    assert code == 0
    assert "galley" in output
    assert "lexical" in output
    assert "total" in output

    code, output, _ = await trireme("status", "--json", *at, journals=tmp_path)
    state = json.loads(output)
    assert state["gateway"] == "SERVING"
    assert collection in [c["name"] for c in state["collections"]]


async def test_a_search_is_walked_grouped_and_ranked_as_the_options_say(
    family: Family, collection: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    rows = [{"_id": f"d{n}", "text": f"ship number {n}", "kind": f"k{n % 2}"} for n in range(6)]
    file = write_lines(tmp_path / "ships.jsonl", *rows)
    assert (await trireme("index", collection, str(file), *at, journals=tmp_path))[0] == 0
    asked = ("search", collection, "ship number", "--no-rerank")

    code, output, _ = await trireme(
        *asked, "--top", "2", "--pages", "9", "--json", *at, journals=tmp_path
    )
    pages = json_objects(output)
    assert code == 0
    assert [len(page["hits"]) for page in pages] == [2, 2, 2]
    assert sorted(h["document"]["id"] for p in pages for h in p["hits"]) == sorted(
        row["_id"] for row in rows
    )

    code, output, _ = await trireme(
        *asked,
        *("--fusion", "min-max", "--weight", "lexical=0.25", "--window", "50"),
        *("--group-by", "kind", "--group-size", "2", "--highlight", "--json", *at),
        journals=tmp_path,
    )
    (reply,) = json_objects(output)
    assert code == 0
    assert (reply["fusion"]["method"], reply["window"]) == ("FUSION_METHOD_MIN_MAX", 50)
    assert (reply["fusion"]["dense_weight"], reply["fusion"]["lexical_weight"]) == (1, 0.25)
    assert {group["value"]["string_value"]: group["size"] for group in reply["groups"]} == {
        "k0": 3,
        "k1": 3,
    }
    assert all(len(group["hits"]) == 2 for group in reply["groups"])
    assert all(hit["highlights"] for group in reply["groups"] for hit in group["hits"])

    code, output, _ = await trireme(
        *asked, "--group-by", "kind", "--explain", *at, journals=tmp_path
    )
    assert code == 0
    assert "k1: 3 of 6 candidates" in output
    assert "weights dense 1, lexical 1" in output
    assert "coverage 100%" in output

    code, _, errors = await trireme(*asked, "--weight", "lexical", *at, journals=tmp_path)
    assert code == 2
    assert "is not a number; write lexical=0.7" in " ".join(errors.split())


async def test_a_miss_is_explained(family: Family, collection: str, tmp_path: Path) -> None:
    at = ("--address", family.cluster.address)
    position = await family.put(collection, **{f"d{n}": f"ship number {n}" for n in range(6)})
    reply = await family.search(collection, "ship number 3", min_position=position)
    last = reply.hits[-1].document.id
    asked = ("explain", collection, "ship number 3", last)

    code, output, errors = await trireme(*asked, "--top", "1", *at, journals=tmp_path)
    assert code == 0, errors
    assert last in output
    assert "below page" in output
    assert "it is on page 6" in " ".join(output.split())
    assert "lexical" in output

    code, output, _ = await trireme(*asked, "--json", *at, journals=tmp_path)
    assert code == 0
    explanation = json.loads(output)
    assert (explanation["outcome"], explanation["rank"]) == ("HIT_OUTCOME_RETURNED", 6)

    code, _, errors = await trireme("explain", collection, "ship", "d99", *at, journals=tmp_path)
    assert code == 1
    assert "DOCUMENT_NOT_FOUND" in errors


async def test_an_interrupted_upload_goes_on_where_it_was(
    family: Family, collection: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    lines = [json.dumps({"_id": f"d{n}", "text": f"text {n}"}) + "\n" for n in range(300)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join([*lines[:290], "?" * (len(lines[290]) - 1) + "\n", *lines[291:]]))
    before = file.stat()

    code, _, errors = await trireme("index", collection, str(file), *at, journals=tmp_path)
    assert code == 1
    assert "rows.jsonl:291" in errors.replace("\n", "")
    assert "is not JSON" in " ".join(errors.split())

    file.write_text("".join(lines))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, output, errors = await trireme("index", collection, str(file), *at, journals=tmp_path)
    assert code == 0, errors
    # 256 were acknowledged in whole batches before; the rest is sent now.
    assert "44 documents stored" in output
    state = json.loads((await trireme("status", "--json", *at, journals=tmp_path))[1])
    (shown,) = [c for c in state["collections"] if c["name"] == collection]
    assert shown["document_count"] == "300"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"text": "no id"}', "id: is empty"),
        ('{"_id": "a"}', "neither text nor title"),
        ('{"_id": "a", "text": 5}', "is a int, not text"),
        ("[1]", "is not a JSON object"),
        ('{"_id": "a", "text": "\\ud800"}', "has no UTF-8 form"),
    ],
)
async def test_a_bad_line_is_named_with_its_number(
    family: Family, collection: str, tmp_path: Path, row: str, problem: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"_id": "good", "text": "x"}\n' + row + "\n")

    code, _, errors = await trireme(
        "index", collection, str(file), "--address", family.cluster.address, journals=tmp_path
    )

    assert code == 1
    assert "bad.jsonl:2" in errors.replace("\n", "")
    assert problem in " ".join(errors.split())


async def test_an_address_where_nothing_listens_is_said_plainly(tmp_path: Path) -> None:
    code, _, errors = await trireme(
        "search", "any", "words", "--address", "127.0.0.1:1", journals=tmp_path
    )

    assert code == 1
    assert "nothing answers at 127.0.0.1:1" in errors


async def test_a_refusal_shows_its_reason(family: Family, tmp_path: Path) -> None:
    code, _, errors = await trireme(
        "search", "nowhere", "words", "--address", family.cluster.address, journals=tmp_path
    )

    assert code == 1
    assert "COLLECTION_NOT_FOUND" in errors
    assert "Traceback" not in errors


async def test_quality_is_measured_on_a_judged_collection(family: Family, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    words = ("apple", "banana", "cherry", "damson")
    write_lines(
        folder / "corpus.jsonl.gz",
        *({"_id": word, "title": "", "text": f"a {word} is a fruit"} for word in words),
    )
    write_lines(folder / "queries.jsonl", *({"_id": w, "text": f"the {w}"} for w in words))
    judged = "".join(f"{word}\t{word}\t1\n" for word in words)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    report = tmp_path / "report.json"

    code, output, errors = await trireme(
        "eval",
        str(folder),
        "--json",
        str(report),
        "--max-queries",
        "3",
        "--address",
        family.cluster.address,
        journals=tmp_path,
    )

    assert code == 0, errors
    measured = json.loads(report.read_text())
    assert (measured["dataset"], measured["documents"], measured["queries"]) == ("tiny", 4, 3)
    assert set(measured["systems"]) == {"dense", "lexical", "hybrid", "rerank"}
    for system in measured["systems"].values():
        assert (system["ndcg@10"], system["recall@100"], system["mrr@10"]) == (1, 1, 1)
        assert 0 < system["p50_ms"] <= system["p95_ms"]
    assert "hybrid" in output
