"""Hybrid search beside LanceDB's, in one run on one machine.

    python -m tests.load.lancedb_side --data DIR [--work DIR] [--seconds N] [--shards N]

LanceDB runs inside one process, in a Python environment that is made for it in WORK, as its guide
says (see lancedb_table.py). Ours answers over gRPC from a whole cluster that remembers no query's
embedding. Both hold the same documents, search vectors of the same model exactly, are warmed up,
are asked the same queries in the same order by the same loop of threads, and take turns of a few
seconds, so that whatever else the machine does meets both; who waits for its turn does nothing.
The table, the environment and the cluster's state stay in WORK for the next run.
docs/performance.md says what this compares and what not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
from tests.load.closed_loop import Ask, Measured, closed_loop
from tests.load.lancedb_process import DEPTH, TOP, WARM_UP, LanceDb, started_lancedb
from tests.load.report import rounded
from trireme.v1 import ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "scifact"
CLIENTS = (1, 8)
TURNS = 4
# Of a side in each measurement, all its turns together.
FEWEST_QUERIES = 52
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
    with started_lancedb(work, judged) as theirs, _started(work, judged, asked.shards) as ours:
        measured = [
            _side_by_side(theirs, ours, search, clients, asked.seconds)
            for search in WARM_UP
            for clients in CLIENTS
        ]
        told = theirs.told
        report = {
            "lancedb": {
                "ndcg": MeanNdcg(judged.judgements).of(told["ranked"]),
                "memory_mb": theirs.memory_mb(),
                "build_seconds": told.get("build_seconds", 0.0),
                "reranked_documents": told["reranked_documents"],
            },
            "trireme": {
                "ndcg": MeanNdcg(judged.judgements).of(ours.ranked()),
                "memory_mb": ours.memory_mb(),
                "build_seconds": ours.build_seconds,
                "reranked_documents": DEPTH,
            },
            "measured": measured,
            "goals_of_throughput": GOALS,
        }
    print(json.dumps(rounded(report), indent=2))


def _side_by_side(
    theirs: LanceDb, ours: Ours, search: str, clients: int, seconds: float
) -> Mapping[str, Any]:
    """Figures of both sides, made in turns, and how they compare."""
    turn: dict[str, Any] = {
        "clients": clients,
        "seconds": seconds / TURNS,
        "fewest": FEWEST_QUERIES // TURNS,
    }
    ask: dict[str, Callable[[], Measured]] = {
        f"lancedb, threads: {threads}": partial(theirs.measure, search, threads=threads, **turn)
        for threads in sorted({1, os.cpu_count() or 1})
    }
    ask["trireme"] = partial(ours.measure, search, **turn)
    found = {name: one() for name, one in ask.items()}
    for _ in range(TURNS - 1):
        found = {name: so_far + ask[name]() for name, so_far in found.items()}
    rows = {name: measured.figures() for name, measured in found.items()}
    print(json.dumps(rounded({search: rows})), file=sys.stderr, flush=True)
    mine = rows.pop("trireme")
    # The number of threads that serves it better counts.
    best = max(rows.values(), key=lambda each: float(each["per_second"]))
    return {
        "search": search,
        "clients": clients,
        "lancedb": best,
        "trireme": mine,
        # Above 1 ours is better.
        "ratios": {
            "throughput": mine["per_second"] / best["per_second"],
            "p50": best["p50_ms"] / mine["p50_ms"],
            "p99": best["p99_ms"] / mine["p99_ms"],
        },
    }


@dataclass(frozen=True, slots=True)
class Ours:
    """A cluster that is ready to be asked; `build_seconds` are 0 if an earlier run indexed."""

    cluster: Cluster
    judged: Judged
    asks: Mapping[str, Ask]
    build_seconds: float

    def measure(self, search: str, *, clients: int, seconds: float, fewest: int) -> Measured:
        """Figures with so many clients."""
        ask, queries = self.asks[search], list(self.judged.queries.values())
        closed_loop(ask, queries, clients=clients, seconds=1.0, fewest=2 * clients)
        return closed_loop(
            ask,
            queries,
            clients=clients,
            seconds=seconds,
            fewest=fewest,
            cpu=lambda: _cpu(self.cluster),
        )

    def ranked(self) -> Mapping[str, Any]:
        """The ids that hybrid search ranks, by query."""
        return {id: self.asks["hybrid"](text) for id, text in self.judged.queries.items()}

    def memory_mb(self) -> float:
        """What all processes hold, what they share counted once."""
        return sum(each.memory_full_info().pss for each in _processes(self.cluster)) / 1e6


@contextmanager
def _started(work: Path, judged: Judged, shards: int) -> Iterator[Ours]:
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
        for name, ask in asks.items():
            for query in list(judged.queries.values())[: WARM_UP[name]]:
                ask(query)
        yield Ours(cluster, judged, asks, build_seconds)


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


@contextmanager
def _connected(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS)) as channel:
        yield channel


if __name__ == "__main__":
    main()
