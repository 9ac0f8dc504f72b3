"""Whether replies keep to short deadlines, and what the time that there is buys.

    python -m tests.load.deadlines [--corpus FILE.jsonl.gz] [--queries N] [--clients N]

Hybrid searches that ask for more reranking than there is time for, with a deadline of 100, 300 and
1,000 ms in turn, one after the other by each client. Per deadline: how many replies came within it,
p50 and p99 as the client sees them, how many documents were reranked, and what fell short. Without
--corpus the docstrings of the standard library are indexed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from core.rpc import CHANNEL_OPTIONS, open_channel
from deploy.cli.cluster import started_cluster
from deploy.cli.index import index_files
from deploy.cli.lines import read_documents
from deploy.local.cluster import ClusterConfig
from deploy.local.demo import write_docstrings
from trireme.v1 import error_reason_pb2, ranking_pb2, search_pb2, search_pb2_grpc

COLLECTION = "deadlines"
SHARDS = 2
DEADLINES_MS = (100, 300, 1000)
DEPTH = 100
WARM_UP = 30
INSIDE = 0.99


@dataclass
class Outcomes:
    """What became of the searches with one deadline."""

    milliseconds: list[float] = field(default_factory=list)
    late: int = 0
    depths: list[int] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def report(self, deadline_ms: int) -> dict[str, Any]:
        """Figures in milliseconds, documents and counts."""
        asked = len(self.milliseconds)
        return {
            "deadline_ms": deadline_ms,
            "replies": len(self.depths),
            "inside": round(1 - self.late / asked, 4),
            "p50_ms": round(float(np.percentile(self.milliseconds, 50)), 1),
            "p99_ms": round(float(np.percentile(self.milliseconds, 99)), 1),
            "mean_depth": round(float(np.mean(self.depths)), 1) if self.depths else 0.0,
            "degraded": dict(self.degraded),
            "failed": dict(self.failed),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, help="JSON lines, plain or .gz")
    parser.add_argument("--queries", type=int, default=100, help="per deadline")
    parser.add_argument("--clients", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trireme-deadlines-") as folder:
        corpus = arguments.corpus or write_docstrings(Path(folder) / "docstrings.jsonl")
        config = ClusterConfig(
            state=Path(folder) / "state",
            shards=SHARDS,
            port=0,
            settings={"gateway": {"embedding_cache_megabytes": 0}},
        )
        with started_cluster(config) as cluster:
            with grpc.insecure_channel(cluster.address, options=list(CHANNEL_OPTIONS)) as channel:
                index_files(channel, COLLECTION, (corpus,), wait=True)
            queries = _queries(corpus, arguments.queries)
            rows = asyncio.run(_measure(cluster.address, queries, arguments.clients))
    print(json.dumps({"clients": arguments.clients, "depth_asked": DEPTH, "rows": rows}, indent=2))
    _check(rows)


def _queries(corpus: Path, count: int) -> list[str]:
    """The first words of documents from all over the corpus."""
    documents = [line.document for line in read_documents(corpus)]
    chosen = [documents[number * len(documents) // count] for number in range(count)]
    return [" ".join((each.text or each.title).split()[:10]) for each in chosen]


async def _measure(address: str, queries: Sequence[str], clients: int) -> list[dict[str, Any]]:
    async with open_channel(address) as channel:
        for deadline_ms in DEADLINES_MS:
            await _run(channel, queries[:WARM_UP], deadline_ms, clients)
        return [
            (await _run(channel, queries, deadline_ms, clients)).report(deadline_ms)
            for deadline_ms in DEADLINES_MS
        ]


async def _run(
    channel: grpc.aio.Channel, queries: Sequence[str], deadline_ms: int, clients: int
) -> Outcomes:
    outcomes, waiting = Outcomes(), iter(queries)

    async def client() -> None:
        for query in waiting:
            await _ask(channel, query, deadline_ms, outcomes)

    await asyncio.gather(*(client() for _ in range(clients)))
    return outcomes


async def _ask(channel: grpc.aio.Channel, query: str, deadline_ms: int, outcomes: Outcomes) -> None:
    stub: Any = search_pb2_grpc.SearchServiceStub(channel)
    request = search_pb2.SearchRequest(
        collection=COLLECTION, query=query, rerank=ranking_pb2.Rerank(depth=DEPTH)
    )
    started = time.perf_counter()
    try:
        reply = await stub.Search(request, timeout=deadline_ms / 1000)
    except grpc.aio.AioRpcError as error:
        outcomes.failed[error.code().name] += 1
        outcomes.late += error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    else:
        outcomes.depths.append(reply.rerank.depth)
        outcomes.degraded.update(_label(each) for each in reply.degraded)
    milliseconds = (time.perf_counter() - started) * 1000
    outcomes.milliseconds.append(milliseconds)


def _label(shortfall: search_pb2.Degradation) -> str:
    stage = search_pb2.Stage.Name(shortfall.stage).removeprefix("STAGE_")
    reason = error_reason_pb2.ErrorReason.Name(shortfall.reason).removeprefix("ERROR_REASON_")
    return f"{stage} {reason}"


def _check(rows: Sequence[dict[str, Any]]) -> None:
    """Ends with a message if the promise is not kept."""
    depths = [row["mean_depth"] for row in rows]
    if any(row["inside"] < INSIDE for row in rows):
        raise SystemExit(f"fewer than {INSIDE:.0%} of the replies kept to a deadline")
    if depths != sorted(set(depths)):
        raise SystemExit("more time did not buy more reranking")


if __name__ == "__main__":
    main()
