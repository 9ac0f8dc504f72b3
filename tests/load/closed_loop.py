"""Clients that ask one query after another: the same loop for both sides of a comparison.

Needs the standard library alone, so that another system's own environment can run it too.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Ask = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """What so many clients got in `seconds`; `cpu_seconds` is processor time, by who spent it."""

    clients: int
    latencies_ms: Sequence[float]
    seconds: float
    cpu_seconds: Mapping[str, float]

    @property
    def per_second(self) -> float:
        """Queries answered per second."""
        return len(self.latencies_ms) / self.seconds

    def __add__(self, other: Measured) -> Measured:
        """Both as if they were one, for measurements that were made in turns."""
        spent = {who: self.cpu_seconds[who] + other.cpu_seconds[who] for who in self.cpu_seconds}
        latencies = [*self.latencies_ms, *other.latencies_ms]
        return Measured(self.clients, latencies, self.seconds + other.seconds, spent)

    def figures(self) -> dict[str, Any]:
        """What people compare; `cpu_ms` is processor time per query."""
        queries = len(self.latencies_ms)
        cuts = statistics.quantiles(self.latencies_ms, n=100, method="inclusive")
        return {
            "clients": self.clients,
            "queries": queries,
            "per_second": self.per_second,
            "p50_ms": cuts[49],
            "p99_ms": cuts[98],
            "cpu_ms": {who: spent * 1000 / queries for who, spent in self.cpu_seconds.items()},
        }


def own_cpu() -> Mapping[str, float]:
    """Processor seconds of this process so far."""
    return {"process": time.process_time()}


def closed_loop(
    ask: Ask,
    queries: Sequence[str],
    *,
    clients: int,
    seconds: float,
    fewest: int = 50,
    cpu: Callable[[], Mapping[str, float]] = own_cpu,
) -> Measured:
    """Lets `clients` threads ask in one shared order, from the first query on, for `seconds`.

    Goes on until `fewest` queries are answered, so that a slow side has percentiles too. `cpu`
    tells processor seconds so far. Raises what a client met first.
    """
    numbers = itertools.count()
    found: list[float] = []
    faults: list[BaseException] = []
    spent, started = cpu(), time.perf_counter()

    def client() -> None:
        try:
            while time.perf_counter() - started < seconds or len(found) < fewest:
                query = queries[next(numbers) % len(queries)]
                sent = time.perf_counter()
                ask(query)
                found.append((time.perf_counter() - sent) * 1000)
                if faults:
                    return
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    taken = time.perf_counter() - started
    return Measured(clients, found, taken, {who: now - spent[who] for who, now in cpu().items()})
