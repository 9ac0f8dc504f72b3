"""`trireme eval` and `trireme tune` on small judged collections, searched for real."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ir_measures", reason="measuring needs the extra `local`")

from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import trireme, write_lines
from trireme.v1 import collection_pb2, ranking_pb2, search_pb2

FRUIT = ("apple", "banana", "cherry", "damson", "elder", "fig")
WORDS = (
    "oar",
    "sail",
    "mast",
    "keel",
    "helm",
    "deck",
    "bow",
    "hull",
    "rope",
    "tide",
    "port",
    "crew",
)


def judge(folder: Path, split: str, judged: Mapping[str, str]) -> None:
    """Writes one relevant document per query."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{query}\t{document}\t1\n" for query, document in judged.items())
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    """Six documents and a seventh that is empty, with a query for each of the six."""
    folder = tmp_path / f"fruit-{tmp_path.name[-8:]}"
    judge(folder, "test", {word: word for word in FRUIT})
    rows = [{"_id": word, "title": "", "text": f"the {word} is a fruit"} for word in FRUIT]
    write_lines(folder / "corpus.jsonl", *rows, {"_id": "none", "title": "", "text": ""})
    write_lines(folder / "queries.jsonl", *({"_id": word, "text": f"a {word}"} for word in FRUIT))
    return folder


async def test_systems_are_measured_compared_and_reported(
    family: Family, fruit: Path, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)
    systems = ("--systems", "all,default", "--compare", "lexical,rrf:k=5:window=20", "--k", "5")
    first, second, page = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "report.html"

    code, output, errors = await trireme(
        "eval", str(fruit), *systems, "--json", str(first), *at, journals=tmp_path
    )
    assert code == 0, errors
    report = json.loads(first.read_text())
    code, _, errors = await trireme(
        "eval",
        *(str(fruit), "--systems", "hybrid", "--against", str(first)),
        *("--json", str(second), "--html", str(page), *at),
        journals=tmp_path,
    )
    assert code == 0, errors

    # The empty document is left out.
    assert report["documents"] == 6
    assert list(report["systems"]) == [
        *("dense", "lexical", "hybrid", "rrf", "min-max", "z-score", "distribution"),
        *("rerank@5", "rerank@10", "rerank@20", "rerank@50", "default", "rrf:k=5:window=20"),
    ]
    for system in report["systems"].values():
        assert (system["ndcg@10"], system["recall@5"], system["map"]) == (1, 1, 1)
        assert system["degraded"] == 0
        assert list(system["per_query"]) == list(FRUIT)
    assert report["systems"]["rrf:k=5:window=20"]["settings"]["fusion"]["k"] == 5
    assert report["systems"]["rrf:k=5:window=20"]["settings"]["window"] == 20
    assert report["systems"]["rerank@5"]["settings"]["rerank"]["depth"] == 5
    assert report["models"] == {"encoder": "bi_encoder:1", "reranker": "cross_encoder:1"}
    assert [(each["before"], each["after"], each["p"]) for each in report["comparisons"]] == [
        ("lexical", "rrf:k=5:window=20", 1)
    ]
    assert "0 of 1 differences are significant" in output
    (change,) = json.loads(second.read_text())["comparisons"]
    assert (change["before"], change["after"], change["delta"]) == ("hybrid before", "hybrid", 0)
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--systems", "dence"), "dence: is not a system"),
        (("--compare", "dense"), "--compare: is 'dense'; name two systems: A,B"),
        (("--split", "dev"), "dev.tsv: cannot be read; name another --split"),
        (("--collection", "nowhere"), "nowhere is not there"),
        (("--systems", "sparse"), "NO_SUCH_LEG"),
    ],
)
async def test_what_cannot_be_measured_is_refused(
    family: Family, fruit: Path, tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    at = ("--address", family.cluster.address)

    code, _, errors = await trireme("eval", str(fruit), *options, *at, journals=tmp_path)

    assert code == 1
    assert problem in " ".join(errors.split())
    assert "Traceback" not in errors


async def test_too_few_judged_queries_are_not_tuned_on(
    family: Family, fruit: Path, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)

    code, _, errors = await trireme("tune", str(fruit), "--split", "test", *at, journals=tmp_path)

    assert code == 1
    assert "which could not support any recommendation" in " ".join(errors.split())


async def test_settings_that_held_back_queries_bear_out_are_applied(
    family: Family, collection: str, tmp_path: Path
) -> None:
    # Given a collection whose users want what the dense leg finds, and settings that ignore it.
    folder = await wanted_of_the_dense_leg(family, collection, tmp_path / "ships")
    await set_defaults(family, collection, dense_weight=0.0, lexical_weight=1.0)
    at = ("--collection", collection, "--address", family.cluster.address)
    found = tmp_path / "tuned.json"
    coarse = ("tune", str(folder), "--split", "test", "--coarse", "--budget-ms", "20000", *at)
    options = ("--no-rerank", "--apply", "--json", str(found))

    # When fusion is tuned, twice.
    code, output, errors = await trireme(*coarse, *options, journals=tmp_path)
    assert code == 0, errors
    report = json.loads(found.read_text())
    code, again, errors = await trireme(*coarse, *options, journals=tmp_path)
    assert code == 0, errors

    # Then what is recommended is sure to be better, is used from now on, and is kept.
    assert report["recommended"] is True, report["reason"]
    assert report["gain"]["low"] > 0
    assert report["gain"]["two_sided_p"] < 0.05
    before, after = report["held_back"].values()
    assert report["gain"]["mean"] == pytest.approx(after["ndcg@10"] - before["ndcg@10"], abs=2e-4)
    assert report["tuning_queries"] + len(after["per_query"]) == 80
    assert f"recommended: {report['chosen']['system'][:20]}" in output
    state = await defaults_of(family, collection)
    assert f"window={state.window}" in report["chosen"]["system"]
    assert state.fusion.dense_weight > 0
    assert state.rerank == ranking_pb2.Rerank(enabled=False, depth=7)
    assert "keep what you have" in again, output + again


async def test_reranking_is_tuned_with_all_that_belongs_to_it(
    family: Family, collection: str, tmp_path: Path
) -> None:
    folder = await wanted_of_the_dense_leg(family, collection, tmp_path / "ships")
    at = ("--collection", collection, "--address", family.cluster.address)
    found, page = tmp_path / "tuned.json", tmp_path / "tuned.html"
    options = ("--split", "test", "--coarse", "--json", str(found), "--html", str(page))

    code, _, errors = await trireme("tune", str(folder), *options, *at, journals=tmp_path)

    assert code == 0, errors
    report = json.loads(found.read_text())
    # Five pairs of weights, two k and three other methods, each alone and with 2 x 2 rerankings.
    assert report["settings_tried"] == 5 * (2 + 3) * (1 + 2 * 2)
    assert report["left_out"] == 0
    assert report["held_back"]["default"]["settings"]["rerank"]["depth"] == 20
    assert [choice["p95_ms"] for choice in report["front"]] == sorted(
        choice["p95_ms"] for choice in report["front"]
    )
    assert "documents reranked" in page.read_text()


async def wanted_of_the_dense_leg(family: Family, collection: str, folder: Path) -> Path:
    """80 queries over 60 texts of random words; relevant is what the dense leg finds first."""
    rng = random.Random(17)
    texts = {f"d{n}": " ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for n in range(60)}
    queries = {f"q{n}": " ".join(rng.sample(WORDS, 3)) for n in range(80)}
    written = await family.put(collection, **texts)
    judged = {}
    for query, text in queries.items():
        reply = await family.search(
            collection,
            text,
            mode=search_pb2.SEARCH_MODE_DENSE,
            rerank=ranking_pb2.Rerank(enabled=False),
            page_size=1,
            min_position=written,
        )
        judged[query] = reply.hits[0].document.id
    judge(folder, "test", judged)
    write_lines(folder / "corpus.jsonl", *({"_id": id, "text": text} for id, text in texts.items()))
    write_lines(
        folder / "queries.jsonl", *({"_id": q, "text": text} for q, text in queries.items())
    )
    return folder


async def set_defaults(family: Family, collection: str, **weights: float) -> None:
    defaults = ranking_pb2.SearchDefaults(
        fusion=ranking_pb2.Fusion(**weights),  # type: ignore[arg-type]
        rerank=ranking_pb2.Rerank(enabled=False, depth=7),
    )
    wanted = collection_pb2.Collection(name=collection, search_defaults=defaults)
    await family.collections.UpdateCollection(
        collection_pb2.UpdateCollectionRequest(collection=wanted), timeout=SECONDS
    )


async def defaults_of(family: Family, collection: str) -> Any:
    got = await family.collections.GetCollection(
        collection_pb2.GetCollectionRequest(name=collection), timeout=SECONDS
    )
    return got.collection.search_defaults
