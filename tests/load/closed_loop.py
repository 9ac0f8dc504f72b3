"""Clients that ask one query after another: the same loop for both sides of a comparison.

Needs the standard library alone, so that another system's own environment can run it too.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Ask = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """What so many clients got: latencies in milliseconds, throughput in queries per second.

    `cpu_ms` is the processor time of a query, by whoever spent it.
    """

    clients: int
    queries: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


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
                found.append(time.perf_counter() - sent)
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
    per_query = {who: (now - spent[who]) * 1000 / len(found) for who, now in cpu().items()}
    return _measured(found, clients, taken, per_query)


def _measured(
    latencies: Sequence[float], clients: int, seconds: float, cpu_ms: Mapping[str, float]
) -> Measured:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return Measured(
        clients=clients,
        queries=len(latencies),
        per_second=len(latencies) / seconds,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        cpu_ms=cpu_ms,
    )
