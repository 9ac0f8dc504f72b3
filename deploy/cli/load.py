"""`trireme load`: queries at a fixed rate, whatever the answers do (open loop).

Arrivals are a Poisson process drawn beforehand. A latency counts from the moment a query was due,
not from when it was sent, so a slow server cannot hide by slowing its clients down.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
import numpy as np
from rich.table import Table

from core.rpc import open_channel, reason_of
from deploy.cli.client import address_option, console, readable_errors, resolve
from deploy.cli.search_options import MODES
from trireme.v1 import ranking_pb2, search_pb2, search_pb2_grpc

PERCENTILES = (50, 95, 99)


@dataclass(slots=True)
class Tally:
    """What came back: latencies in ms of answered queries, failures by reason."""

    milliseconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    degraded: int = 0


@click.command()
@click.argument("collection")
@click.option(
    "--queries",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="One query per line.",
)
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=10.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True)
@click.option("--mode", type=click.Choice(list(MODES)), default="hybrid", show_default=True)
@click.option("--rerank/--no-rerank", default=True)
@click.option("--deadline", type=float, default=2.0, show_default=True, help="Seconds per query.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@address_option
@readable_errors
def load(
    collection: str,
    queries: Path,
    rate: float,
    seconds: float,
    mode: str,
    rerank: bool,
    deadline: float,
    seed: int,
    as_json: bool,
    address: str | None,
) -> None:
    """Send queries to COLLECTION at RATE per second and report latencies."""
    texts = [line.strip() for line in queries.read_text().splitlines() if line.strip()]
    if not texts:
        raise click.BadParameter("holds no query", param_hint="--queries")
    requests = [
        search_pb2.SearchRequest(
            collection=collection,
            query=text,
            mode=MODES[mode],
            rerank=ranking_pb2.Rerank(enabled=rerank),
        )
        for text in texts
    ]
    arrivals = plan_arrivals(rate, seconds, seed)
    tally = asyncio.run(_send(resolve(address), requests, arrivals, deadline))
    report = summarise(tally, rate, seconds)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        console.print(_table(report))


def plan_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments in seconds from the start at which queries are due: a Poisson process."""
    generator = np.random.default_rng(seed)
    gaps = generator.exponential(1 / rate, size=int(rate * seconds * 2) + 100)
    moments = np.cumsum(gaps)
    return [float(moment) for moment in moments[moments < seconds]]


def summarise(tally: Tally, rate: float, seconds: float) -> dict[str, object]:
    """The report as plain data; latencies in milliseconds."""
    answered = len(tally.milliseconds)
    latencies = {
        f"p{p}_ms": round(float(np.percentile(tally.milliseconds, p)), 2) if answered else None
        for p in PERCENTILES
    }
    return {
        "rate_per_second": rate,
        "seconds": seconds,
        "sent": answered + sum(tally.failures.values()),
        "answered": answered,
        "degraded": tally.degraded,
        "failed": dict(tally.failures),
        **latencies,
        "max_ms": round(max(tally.milliseconds), 2) if answered else None,
    }


async def _send(
    address: str,
    requests: list[search_pb2.SearchRequest],
    arrivals: list[float],
    deadline: float,
) -> Tally:
    tally = Tally()
    async with open_channel(address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def one(number: int, due: float) -> None:
            try:
                reply = await stub.Search(requests[number % len(requests)], timeout=deadline)
            except grpc.aio.AioRpcError as error:
                tally.failures[reason_of(error) or error.code().name] += 1
                return
            tally.milliseconds.append((loop.time() - start - due) * 1000)
            tally.degraded += bool(reply.degraded)

        async with asyncio.TaskGroup() as group:
            for number, due in enumerate(arrivals):
                await asyncio.sleep(max(0.0, start + due - loop.time()))
                group.create_task(one(number, due))
    return tally


def _table(report: dict[str, object]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, value in report.items():
        table.add_row(name.replace("_", " "), str(value))
    return table
