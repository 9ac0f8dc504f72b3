"""What three times its capacity does to a cluster, and how soon all is as before.

    python -m tests.load.overload [--seconds 60] [--real-time] [--bystander] [--rerank]
        [--corpus FILE.jsonl.gz]

Models and indexes are real, queries are all different, arrivals are at random moments and wait
for nobody (an open loop, in a process of its own). First the capacity: the most that clients get
who ask one query after another. Then 0.7 times that, 3 times that, and 0.7 times again. The clients
share the cores with the cluster: a flood costs them more than the measurement of the capacity did,
and `goodput_of_what_was_left` allows for that, by the processor time that they report. With
--real-time they never wait for a core, as if they had one of their own: what is left of a latency
is the cluster's. A machine that slows down between two measurements spoils what is made of both:
the capacity is measured again at the end, and `stolen_seconds` of processor time went to others on
the same host in the flood. With --bystander a process that does nothing but refuse is asked 40
times a second beside the flood (tests.load.bystander): what that takes is not the gateway's doing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import psutil

from core.rpc import CHANNEL_OPTIONS, reason_of
from deploy.cli.access import Access
from deploy.cli.cluster import started_cluster
from deploy.cli.index import index_files
from deploy.cli.lines import read_documents
from deploy.load.crew import Crew
from deploy.load.scenario import Shape
from deploy.load.sender import Target
from deploy.load.tally import Histogram, Tally
from deploy.local.cluster import Cluster, ClusterConfig
from deploy.local.demo import write_docstrings
from tests.load.bystander import bystander
from tests.load.closed_loop import closed_loop
from tests.load.memory import peak_of
from tests.load.report import rounded
from trireme.v1 import search_pb2_grpc

COLLECTION = "overload"
CLIENTS = (2, 4, 8)
CAPACITY_SECONDS = 8.0
USUAL, FLOOD = 0.7, 3.0
# To the bystander: enough for a p99, and next to nothing beside the flood.
BESIDE_PER_SECOND = 40.0
RECOVERY_SECONDS = 12
# A refused client of the closed loop asks again after this.
AGAIN_SECONDS = 0.05
DEADLINE_SECONDS, PATIENCE_SECONDS = 2.0, 30.0
SHED = "OVERLOADED"


@dataclass(frozen=True)
class Rig:
    """The cluster under test, who sends the load, what is asked, and who asks a bystander."""

    cluster: Cluster
    crew: Crew
    shape: Shape
    queries: Sequence[str]
    beside: Crew | None = None

    def gateway_peak(self) -> int:
        """The most bytes that the gateway ever held."""
        return peak_of(self.cluster.pids["gateway"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--real-time", action="store_true", help="takes root or CAP_SYS_NICE")
    parser.add_argument("--bystander", action="store_true", help="measure the soonest refusal")
    parser.add_argument("--rerank", action="store_true", help="rerank 20 documents of each search")
    parser.add_argument("--corpus", type=Path, help="JSON lines, plain or .gz")
    options = parser.parse_args()
    shape = Shape("hybrid", rerank=options.rerank)
    with tempfile.TemporaryDirectory(prefix="trireme-bench-") as folder:
        corpus = options.corpus or write_docstrings(Path(folder) / "docstrings.jsonl")
        config = ClusterConfig(
            state=Path(folder) / "state",
            settings={"gateway": {"embedding_cache_megabytes": 0}},
        )
        with started_cluster(config) as cluster:
            with grpc.insecure_channel(cluster.address, options=list(CHANNEL_OPTIONS)) as channel:
                index_files(channel, COLLECTION, (corpus,), wait=True)
            target = Target(
                access=Access(cluster.address),
                collection=COLLECTION,
                shapes=(shape,),
                queries=(queries := tuple(_queries(corpus))),
                deadline=DEADLINE_SECONDS,
            )
            with ExitStack() as stack:
                crew = stack.enter_context(Crew(target, real_time=options.real_time))
                rig = Rig(cluster, crew, shape, queries)
                if options.bystander:
                    access = Access(stack.enter_context(bystander()))
                    beside = Crew(replace(target, access=access), real_time=options.real_time)
                    rig = replace(rig, beside=stack.enter_context(beside))
                figures = _measure(rig, options.seconds)
    print(json.dumps(rounded(figures), indent=2))


def _queries(corpus: Path) -> list[str]:
    """The first words of all documents."""
    documents = [line.document for line in read_documents(corpus)]
    return [" ".join((each.text or each.title).split()[:10]) for each in documents]


def _measure(rig: Rig, seconds: float) -> dict[str, Any]:
    capacity, generator = _capacity(rig)
    usual = rig.crew.send(USUAL * capacity, seconds, seed=1)
    before, stolen = rig.gateway_peak(), _stolen_seconds()
    flood, beside = _flood(rig, FLOOD * capacity, seconds)
    stolen = _stolen_seconds() - stolen
    usual_p99, flood_p99 = usual.answered.percentile(99), flood.answered.percentile(99)
    assert usual_p99, "nothing was answered"
    assert flood_p99, "nothing was let in"
    goodput = len(flood.answered) / seconds / capacity
    left = 1 - (flood.busy - generator) / (os.cpu_count() or 1)
    return {
        "capacity_per_second": capacity,
        "usual": _told(usual),
        "flood": _told(flood),
        "admitted_p99_ratio": flood_p99 / usual_p99,
        "goodput_of_capacity": goodput,
        "goodput_of_what_was_left": goodput / left,
        "stolen_seconds": stolen,
        "shed_p50_ms": flood.failed[SHED].percentile(50),
        "shed_p99_ms": flood.failed[SHED].percentile(99),
        "bystander": {"p50_ms": beside.percentile(50), "p99_ms": beside.percentile(99)},
        "gateway_peak_megabytes": {"before": before / 1e6, "after": rig.gateway_peak() / 1e6},
        "seconds_to_normal": _seconds_to_normal(rig, capacity, usual),
        "capacity_per_second_afterwards": _capacity(rig)[0],
    }


def _flood(rig: Rig, rate: float, seconds: float) -> tuple[Tally, Histogram]:
    """What became of the flood, and how soon a bystander refused meanwhile, if there is one."""
    if rig.beside is None:
        return rig.crew.send(rate, seconds, seed=2), Histogram()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(rig.beside.send, BESIDE_PER_SECOND, seconds, seed=3)
        return rig.crew.send(rate, seconds, seed=2), beside.result().failed[SHED]


def _capacity(rig: Rig) -> tuple[float, float]:
    """Answers per second at best, and the share of a core that asking took then."""
    with grpc.insecure_channel(rig.cluster.address, options=list(CHANNEL_OPTIONS)) as channel:
        ask = _asking(channel, rig.shape)
        found = [
            closed_loop(ask, rig.queries, clients=clients, seconds=CAPACITY_SECONDS)
            for clients in CLIENTS
        ]
    best = max(found, key=lambda each: each.per_second)
    return best.per_second, sum(best.cpu_seconds.values()) / best.seconds


def _asking(channel: grpc.Channel, shape: Shape) -> Callable[[str], object]:
    search = search_pb2_grpc.SearchServiceStub(channel).Search

    def ask(query: str) -> object:
        while True:
            try:
                return search(shape.request(COLLECTION, query), timeout=PATIENCE_SECONDS)
            except grpc.RpcError as error:
                if reason_of(error) != SHED:
                    raise
                time.sleep(AGAIN_SECONDS)

    return ask


def _seconds_to_normal(rig: Rig, capacity: float, usual: Tally) -> float:
    """Until no further second has a refusal or a median beyond what nine in ten took before."""
    bound = usual.answered.percentile(90)
    assert bound is not None
    began, normal_since = time.monotonic(), 0.0
    for second in range(RECOVERY_SECONDS):
        tally = rig.crew.send(USUAL * capacity, 1.0, seed=10 + second)
        median = tally.answered.percentile(50)
        if tally.failed or median is None or median > bound:
            normal_since = time.monotonic() - began
    return normal_since


def _stolen_seconds() -> float:
    """Processor time that other guests of the host have had instead of this machine."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _told(tally: Tally) -> dict[str, Any]:
    return {
        "answered": len(tally.answered),
        "failed": {reason: len(times) for reason, times in tally.failed.items()},
        "degraded": tally.degraded,
        "p50_ms": tally.answered.percentile(50),
        "p99_ms": tally.answered.percentile(99),
        "generator_cores": tally.busy,
    }


if __name__ == "__main__":
    main()
