"""`trireme index rebuild` and `trireme index compact`: an index is built anew or tidied up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import click
import grpc
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.client import address_option, connected, console, readable_errors
from deploy.cli.upload import CALL_SECONDS, POLL_SECONDS, patiently
from trireme.v1 import operations_pb2, operations_pb2_grpc

Stub = Any  # operations_pb2_grpc.OperationsServiceStub

_STATES = {
    operations_pb2.TASK_STATE_WAITING: "waits",
    operations_pb2.TASK_STATE_RUNNING: "under way",
    operations_pb2.TASK_STATE_DONE: "done",
}
_wait_option = click.option("--wait/--no-wait", default=True, help="Wait until it is done.")


@click.command()
@click.argument("collection")
@_wait_option
@address_option
@readable_errors
def rebuild(collection: str, wait: bool, address: str | None) -> None:
    """Build the index of COLLECTION anew from the document store.

    Searches go on with the old index of each shard until the new one has caught up.
    """
    request = operations_pb2.RebuildIndexRequest(collection=collection)
    _carry_out("rebuilt", collection, lambda stub: stub.RebuildIndex(request), wait, address)


@click.command()
@click.argument("collection")
@_wait_option
@address_option
@readable_errors
def compact(collection: str, wait: bool, address: str | None) -> None:
    """Merge the segments of COLLECTION and drop what was replaced or removed."""
    request = operations_pb2.CompactIndexRequest(collection=collection)
    _carry_out("compacted", collection, lambda stub: stub.CompactIndex(request), wait, address)


def _carry_out(
    done: str, collection: str, ask: Callable[[Stub], Any], wait: bool, address: str | None
) -> None:
    with connected(address) as channel:
        stub = operations_pb2_grpc.OperationsServiceStub(channel)
        tasks = ask(stub).tasks
        if wait:
            wait_until_done(channel, collection, tasks)
    how = f"is {done}" if wait else f"is being {done}"
    console.print(f"[bold]{collection}[/] {how}, {len(tasks)} shards")


def wait_until_done(
    channel: grpc.Channel, collection: str, tasks: Iterable[operations_pb2.IndexTask]
) -> None:
    """Shows how far tasks are until all are done."""
    stub = operations_pb2_grpc.OperationsServiceStub(channel)
    request = operations_pb2.ListIndexTasksRequest(collection=collection)
    kinds = {task.kind for task in tasks}
    with _bars() as bars:
        shown = {
            task.shard: bars.add_task(f"shard {task.shard}", total=None, state="waits")
            for task in tasks
        }
        while True:
            found = patiently(partial(stub.ListIndexTasks, request, timeout=CALL_SECONDS)).tasks
            ours = [task for task in found if task.kind in kinds]
            for task in ours:
                _show(bars, shown[task.shard], task)
            if all(task.state == operations_pb2.TASK_STATE_DONE for task in ours):
                return
            time.sleep(POLL_SECONDS)


def _show(bars: Progress, bar: Any, task: operations_pb2.IndexTask) -> None:
    done, total = task.done, task.total or None
    if task.state == operations_pb2.TASK_STATE_DONE:
        done = total = 1
    bars.update(bar, completed=done, total=total, state=_STATES[task.state])


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:10}"),
        BarColumn(bar_width=40),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
    )
