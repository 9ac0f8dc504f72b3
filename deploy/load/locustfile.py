"""Searches as a scenario for locust.

    locust -f deploy/load/locustfile.py --host HOST:PORT --collection NAME --queries FILE

Users of locust ask again when they are answered (a closed loop), so slow answers thin the load out
and hide part of themselves. For capacity and percentiles take `trireme load`; take this where
locust's web page, its workers on many machines or a mix with other services is wanted. An API key
or token is read from TRIREME_API_KEY.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import grpc.experimental.gevent
from locust import User, constant_throughput, events, task
from locust.argument_parser import LocustArgumentParser

from core.rpc import reason_of
from deploy.cli.access import API_KEY, Access
from deploy.load.queries import read_queries, sample_queries
from deploy.load.scenario import Shape, read_shapes
from trireme.v1 import search_pb2_grpc

# gRPC blocks in C, which would stop all users but one.
grpc.experimental.gevent.init_gevent()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--collection", required=True, help="Collection to search.")
    parser.add_argument("--queries", type=Path, help="As of `trireme load`.")
    parser.add_argument("--scenario", type=Path, help="As of `trireme load`.")
    parser.add_argument("--deadline", type=float, default=2.0, help="Seconds per query.")
    parser.add_argument("--ca", type=Path, help="CA of the gateway's certificate (PEM).")
    parser.add_argument("--user-rate", type=float, default=1.0, help="Queries/s of one user.")


def _access(address: str, options: Any) -> Access:
    return Access(address, ca=options.ca, api_key=os.environ.get(API_KEY, ""))


class SearchUser(User):  # type: ignore[misc]
    """Asks one query after another, `--user-rate` per second at most."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        self._options = options
        self._channel = _access(self.host, options).open()
        self._stub = search_pb2_grpc.SearchServiceStub(self._channel)
        self._shapes = read_shapes(options.scenario) if options.scenario else (Shape("hybrid"),)
        self._weights = [shape.weight for shape in self._shapes]
        found = (
            read_queries(options.queries)
            if options.queries
            else sample_queries(self._channel, options.collection)
        )
        self._queries = itertools.cycle(random.sample(found, len(found)))

    def wait_time(self) -> float:
        """Seconds until the next query."""
        wait: float = constant_throughput(self._options.user_rate)(self)
        return wait

    def on_stop(self) -> None:
        """Closes the connection."""
        self._channel.close()

    @task  # type: ignore[untyped-decorator]
    def search(self) -> None:
        """One search; a degraded answer counts under a name of its own."""
        (shape,) = random.choices(self._shapes, self._weights)
        request = shape.request(self._options.collection, next(self._queries))
        started, name, size, fault = time.perf_counter(), shape.name, 0, None
        try:
            reply = self._stub.Search(
                request, timeout=self._options.deadline, metadata=shape.metadata
            )
        except grpc.RpcError as error:
            fault = RuntimeError(reason_of(error) or error.code().name)
        else:
            size = reply.ByteSize()
            name += " (degraded)" if reply.degraded else ""
        self.environment.events.request.fire(
            request_type="Search",
            name=name,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=size,
            exception=fault,
            context={},
        )
