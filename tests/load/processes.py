"""Servers for comparison, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import grpc


@contextmanager
def process_of(role: Callable[..., None], *arguments: object) -> Iterator[str]:
    """The address of a role that runs in a process of its own, and is killed at the end.

    The role is called with what to tell its address to (`serve` does), and with the arguments.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=role, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


async def serve(told: Connection, server: grpc.aio.Server) -> None:
    """Runs a server at a free port of this machine, for good."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told.send(f"127.0.0.1:{port}")
    await server.wait_for_termination()
