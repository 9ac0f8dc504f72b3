"""Hybrid search beside LanceDB's, in one run on one machine.

    python -m tests.load.lancedb_side --data DIR [--work DIR] [--seconds N] [--shards N]

LanceDB runs inside one process, in a Python environment that is made for it in WORK, as its guide
says (see lancedb_table.py). Ours answers over gRPC from a whole cluster that remembers no query's
embedding. Both hold the same documents, search vectors of the same model exactly, are warmed up,
are asked the same queries in the same order by the same loop of threads, and have the machine to
themselves. The table, the environment and the cluster's state stay in WORK for the next
run. docs/performance.md says what this compares and what not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import psutil

from core.index_store import IndexStore
from core.rpc import CHANNEL_OPTIONS
from deploy.cli import beir
from deploy.cli.beir import Judged
from deploy.cli.cluster import started_cluster
from deploy.cli.index import index_files
from deploy.evaluation.measures import MeanNdcg
from deploy.local.cluster import Cluster, ClusterConfig
from tests.load.closed_loop import Ask, closed_loop
from tests.load.lancedb_process import CLIENTS, DEPTH, TOP, WARM_UP, Figures, Side, measure_lancedb
from tests.load.report import rounded
from trireme.v1 import ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "scifact"
SECONDS = 30.0
# With 8 clients: throughput of ours over LanceDB's.
GOALS = {"hybrid": 3.0, "reranked": 4.0}


def main() -> None:
    """Measures both sides and prints figures and ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIREME_DATA"))
    parser.add_argument("--work", type=Path, default=Path(".trireme-bench/lancedb"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--shards", type=int, default=1)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data is missing: give the folder that holds scifact/")
    judged = beir.load(Path(asked.data) / "scifact", "test", None)
    work = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    theirs = measure_lancedb(work, judged, asked.seconds)
    ours = _ours(work, judged, asked.seconds, asked.shards)
    report = {
        "lancedb": asdict(theirs),
        "trireme": asdict(ours),
        "ratios": _ratios(ours.figures, theirs.figures),
        "goals_of_throughput": GOALS,
    }
    print(json.dumps(rounded(report), indent=2))


def _ours(work: Path, judged: Judged, seconds: float, shards: int) -> Side:
    state = work / f"state-{shards}"
    indexed = (state / "indexed").exists()
    config = ClusterConfig(
        state=state,
        shards=shards,
        port=0,
        settings={"gateway": {"embedding_cache_megabytes": 0}},
    )
    with started_cluster(config) as cluster, _connected(cluster.address) as channel:
        started = time.perf_counter()
        if not indexed:
            index_files(channel, COLLECTION, (judged.corpus,), wait=True)
            (state / "indexed").touch()
        build_seconds = 0.0 if indexed else time.perf_counter() - started
        _check_exact(state / "index")
        asks = {name: _asking(channel, rerank=name == "reranked") for name in WARM_UP}
        figures = {name: _measure(name, asks[name], judged, seconds, cluster) for name in WARM_UP}
        ranked: Any = {id: asks["hybrid"](text) for id, text in judged.queries.items()}
        memory = sum(each.memory_full_info().pss for each in _processes(cluster)) / 1e6
    ndcg = MeanNdcg(judged.judgements).of(ranked)
    return Side(figures, ndcg, memory, build_seconds, reranked_documents=DEPTH)


def _measure(
    name: str, ask: Ask, judged: Judged, seconds: float, cluster: Cluster
) -> dict[int, dict[str, Any]]:
    queries = list(judged.queries.values())
    for query in queries[: WARM_UP[name]]:
        ask(query)
    rows = {}
    for clients in CLIENTS:
        closed_loop(ask, queries, clients=clients, seconds=1.0, fewest=2 * clients)
        measured = closed_loop(
            ask, queries, clients=clients, seconds=seconds, cpu=lambda: _cpu(cluster)
        )
        rows[clients] = measured.as_dict()
        print(json.dumps(rounded({"trireme": {"search": name, **rows[clients]}})), file=sys.stderr)
    return rows


def _cpu(cluster: Cluster) -> dict[str, float]:
    """Processor seconds so far of each role with its children, and of the clients."""
    spent = {"clients": time.process_time()}
    for name in cluster.pids:
        times = [each.cpu_times() for each in _processes(cluster, name)]
        spent[name] = sum(each.user + each.system for each in times)
    return spent


def _processes(cluster: Cluster, role: str = "") -> list[psutil.Process]:
    """Those of a role, or of all, with their children."""
    parents = [psutil.Process(pid) for name, pid in cluster.pids.items() if role in ("", name)]
    return [each for parent in parents for each in (parent, *parent.children(recursive=True))]


def _asking(channel: grpc.Channel, *, rerank: bool) -> Ask:
    stub = search_pb2_grpc.SearchServiceStub(channel)

    def ask(query: str) -> Sequence[str]:
        request = search_pb2.SearchRequest(
            collection=COLLECTION,
            query=query,
            page_size=TOP,
            rerank=ranking_pb2.Rerank(enabled=rerank, depth=DEPTH),
        )
        reply = stub.Search(request, timeout=SECONDS)
        # An answer that fell short would be a fast one.
        assert not reply.degraded, reply.degraded
        assert not rerank or reply.rerank.depth == DEPTH
        return [hit.document.id for hit in reply.hits]

    return ask


def _check_exact(index: Path) -> None:
    """Raises AssertionError if a segment is searched by anything but all its vectors."""
    store = IndexStore.open(index)
    (collection,) = store.collections()
    for number in range(collection.shard_count):
        manifest = store.shard(collection.uid, number).read_current()
        assert manifest is not None
        assert all(segment.index is None for segment in manifest.segments)


def _ratios(ours: Figures, theirs: Figures) -> Mapping[str, Any]:
    """Throughput of ours over theirs, latency of theirs over ours: above 1 ours is better."""
    return {
        name: {
            f"{clients} clients": {
                "throughput": mine["per_second"] / theirs[name][clients]["per_second"],
                "p50": theirs[name][clients]["p50_ms"] / mine["p50_ms"],
                "p99": theirs[name][clients]["p99_ms"] / mine["p99_ms"],
            }
            for clients, mine in rows.items()
        }
        for name, rows in ours.items()
    }


@contextmanager
def _connected(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS)) as channel:
        yield channel


if __name__ == "__main__":
    main()
