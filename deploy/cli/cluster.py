"""A cluster for the time of one command, where none is running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from core.rpc import CHANNEL_OPTIONS
from deploy.cli.client import DEFAULT_STATE, console
from deploy.local.cluster import Cluster, ClusterConfig

STOP_GRACE_SECONDS = 10.0
PROBE_SECONDS = 1.0


@contextmanager
def running_cluster(address: str | None, state: Path = DEFAULT_STATE) -> Iterator[str]:
    """The address of a running cluster: the one given, the one in `state`, or a new one there."""
    found = address or _answering(state)
    if found:
        yield found
        return
    with started_cluster(ClusterConfig(state=state, shards=2, port=0)) as cluster:
        yield cluster.address


@contextmanager
def started_cluster(config: ClusterConfig) -> Iterator[Cluster]:
    """A cluster on an event loop of its own thread; stopped at the end whatever happens."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cluster", daemon=True)
    thread.start()
    try:
        cluster = asyncio.run_coroutine_threadsafe(Cluster.create(config), loop).result()
        try:
            asyncio.run_coroutine_threadsafe(cluster.start(on_progress=_say), loop).result()
            yield cluster
        finally:
            _say("stopping")
            asyncio.run_coroutine_threadsafe(cluster.stop(STOP_GRACE_SECONDS), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _answering(state: Path) -> str | None:
    try:
        address = (state / "address").read_text().strip()
    except OSError:
        return None
    with grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PROBE_SECONDS)
        except grpc.FutureTimeoutError:
            return None
    return address


def _say(step: str) -> None:
    console.print(f"[dim]·[/] {step}", highlight=False)
