"""Asks a cluster every query in every way, and keeps what came back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from core.rpc import reason_of
from deploy.evaluation.systems import System
from trireme.v1 import search_pb2, search_pb2_grpc

DEADLINE_SECONDS = 30.0
OnQuery = Callable[[], None]


@dataclass(slots=True)
class Run:
    """What one system answered: documents best first and milliseconds, by query id.

    `fell_short` are the queries whose answers are degraded; `last` is the last answer, for its
    settings.
    """

    system: System
    rankings: dict[str, list[str]] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    fell_short: set[str] = field(default_factory=set)
    last: search_pb2.SearchResponse = field(default_factory=search_pb2.SearchResponse)

    @property
    def degraded(self) -> int:
        """How many answers fell short."""
        return len(self.fell_short)

    def add(self, query: str, reply: search_pb2.SearchResponse, milliseconds: float) -> None:
        """Keeps one answer."""
        self.rankings[query] = [hit.document.id for hit in reply.hits]
        self.milliseconds[query] = milliseconds
        if reply.degraded:
            self.fell_short.add(query)
        self.last = reply


class Searcher:
    """Searches one collection, one query at a time."""

    def __init__(self, channel: grpc.Channel, collection: str) -> None:
        self._stub = search_pb2_grpc.SearchServiceStub(channel)
        self.collection = collection
        self._blanks = _blanks(time.time_ns() // 1_000_000)

    def ask(
        self, system: System, text: str, page_size: int
    ) -> tuple[search_pb2.SearchResponse, float]:
        """The answer and its milliseconds at the client.

        A query beyond the encoder's limit is cut word by word until it fits. White space that
        differs each time follows the text, so that no answer owes its speed to an embedding that
        the gateway remembers.
        """
        words = text.split()
        while True:
            fresh = " ".join(words) + next(self._blanks)
            request = system.request(self.collection, fresh, page_size)
            started = time.perf_counter()
            try:
                reply = self._stub.Search(request, timeout=DEADLINE_SECONDS)
            except grpc.RpcError as error:
                if reason_of(error) != "TOO_LONG" or len(words) < 2:
                    raise
                words = words[: len(words) * 9 // 10]
            else:
                return reply, (time.perf_counter() - started) * 1000


def run_all(
    searcher: Searcher,
    systems: Sequence[System],
    queries: Mapping[str, str],
    page_size: int,
    on_query: OnQuery,
) -> list[Run]:
    """One run per system. Query by query, and each query starts with another system.

    So whatever else the machine does falls on all systems alike. `on_query` is called after each
    query.
    """
    runs = [Run(system) for system in systems]
    for turn, (query, text) in enumerate(queries.items()):
        first = turn % len(runs)
        for run in runs[first:] + runs[:first]:
            run.add(query, *searcher.ask(run.system, text, page_size))
        on_query()
    return runs


def _blanks(seed: int) -> Iterator[str]:
    """White space that spells the numbers from `seed` on in binary."""
    for number in itertools.count(seed):
        yield f"{number:b}".translate({ord("0"): " ", ord("1"): "\t"})
