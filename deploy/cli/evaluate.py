"""`trireme eval`: quality and latency of each system on a judged collection."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import grpc
import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG
from rich.progress import track
from rich.table import Table

from core.rpc import reason_of
from deploy.cli.beir import Judged, load
from deploy.cli.chosen_models import ChosenModels, model_options
from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.cluster import running_cluster
from deploy.cli.index import index_files
from deploy.cli.status import list_collections
from trireme.v1 import search_pb2, search_pb2_grpc

MEASURES = {"ndcg@10": nDCG @ 10, "recall@100": R @ 100, "mrr@10": RR @ 10}
SYSTEMS = {
    "dense": (search_pb2.SEARCH_MODE_DENSE, False),
    "lexical": (search_pb2.SEARCH_MODE_LEXICAL, False),
    "sparse": (search_pb2.SEARCH_MODE_SPARSE, False),
    "hybrid": (search_pb2.SEARCH_MODE_HYBRID, False),
    "rerank": (search_pb2.SEARCH_MODE_HYBRID, True),
}
DEFAULT_SYSTEMS = ("dense", "lexical", "hybrid", "rerank")
DEPTH = 100
DEADLINE_SECONDS = 30.0

Run = dict[str, dict[str, float]]


@click.command("eval")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--split", default="test", show_default=True, help="Name of the file in qrels/.")
@click.option(
    "--systems",
    default=",".join(DEFAULT_SYSTEMS),
    show_default=True,
    help="Of dense, lexical, sparse (needs --sparse-encoder), hybrid, rerank.",
)
@click.option("--max-queries", type=click.IntRange(1), help="Only the first so many queries.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
@model_options
@address_option
@readable_errors
def evaluate(
    folder: Path,
    split: str,
    systems: str,
    max_queries: int | None,
    json_file: Path | None,
    encoder: str,
    sparse_encoder: str,
    dimensions: int,
    address: str | None,
) -> None:
    """Measure search quality on FOLDER, a collection in BEIR layout.

    The corpus is indexed first unless it already is, for each choice of models once. Without a
    running cluster, one is started for the time of the command.
    """
    names = _systems(systems)
    models = ChosenModels(encoder, sparse_encoder, dimensions)
    judged = load(folder, split, max_queries)
    with running_cluster(address) as target, connected(target) as channel:
        parts = "eval", judged.name.lower()[:36], judged.digest, models.digest()
        collection = "-".join(filter(None, parts))
        documents = _indexed(channel, collection, judged, models)
        results = {name: _measure(channel, collection, judged, name) for name in names}
    report = {
        "dataset": judged.name,
        "split": split,
        "documents": documents,
        "queries": len(judged.queries),
        "systems": results,
    }
    console.print(_table(report))
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def _systems(names: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in SYSTEMS:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(SYSTEMS)}", param_hint="--systems"
            )
    return chosen


def _indexed(channel: grpc.Channel, collection: str, judged: Judged, models: ChosenModels) -> int:
    """Makes sure that the whole corpus can be searched; returns the number of documents."""
    corpus_size = _count_lines(judged.corpus)
    found = {c.name: c.document_count for c in list_collections(channel)}
    if found.get(collection) != corpus_size:
        index_files(channel, collection, (judged.corpus,), wait=False, models=models)
    index_files(channel, collection, (), wait=True, models=models)
    return {c.name: c.document_count for c in list_collections(channel)}[collection]


def _count_lines(path: Path) -> int:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def _measure(
    channel: grpc.Channel, collection: str, judged: Judged, system: str
) -> dict[str, float]:
    stub = search_pb2_grpc.SearchServiceStub(channel)
    run: Run = {}
    milliseconds: list[float] = []
    degraded = 0
    for query_id, text in track(
        judged.queries.items(), description=f"{system:8}", console=console, transient=True
    ):
        started = time.perf_counter()
        reply = _search(stub, collection, text, system)
        milliseconds.append((time.perf_counter() - started) * 1000)
        degraded += bool(reply.degraded)
        run[query_id] = {hit.document.id: -rank for rank, hit in enumerate(reply.hits)}
    return {
        **_quality(judged.judgements, run),
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 2),
        "degraded": degraded,
    }


def _search(
    stub: search_pb2_grpc.SearchServiceStub, collection: str, text: str, system: str
) -> search_pb2.SearchResponse:
    """One query; a query beyond the encoder's limit is cut word by word until it fits."""
    mode, rerank = SYSTEMS[system]
    words = text.split()
    while True:
        request = search_pb2.SearchRequest(
            collection=collection,
            query=" ".join(words),
            page_size=DEPTH,
            mode=mode,
            rerank=search_pb2.Rerank(enabled=rerank),
        )
        try:
            return stub.Search(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            if reason_of(error) != "TOO_LONG" or len(words) < 2:
                raise
            words = words[: len(words) * 9 // 10]


def _quality(judgements: Mapping[str, Mapping[str, int]], run: Run) -> dict[str, float]:
    values = ir_measures.calc_aggregate(list(MEASURES.values()), judgements, run)
    return {name: round(float(values[measure]), 4) for name, measure in MEASURES.items()}


def _table(report: Mapping[str, Any]) -> Table:
    title = (
        f"{report['dataset']}: {report['queries']:,} queries of {report['split']}, "
        f"{report['documents']:,} documents"
    )
    table = Table(title=title, box=None, padding=(0, 2), header_style="dim", title_justify="left")
    table.add_column("system")
    for heading in (*MEASURES, "p50 ms", "p95 ms", "degraded"):
        table.add_column(heading, justify="right")
    for name, values in report["systems"].items():
        table.add_row(
            name,
            *(f"{values[measure]:.4f}" for measure in MEASURES),
            f"{values['p50_ms']:.1f}",
            f"{values['p95_ms']:.1f}",
            str(values["degraded"]),
        )
    return table
