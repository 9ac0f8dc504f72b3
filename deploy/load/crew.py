"""Processes that send one load together: one Python process sends some hundreds a second."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from core.errors import BadEnvironment, TriremeError
from deploy.load.arrivals import plan_arrivals
from deploy.load.scenario import draw
from deploy.load.sender import Part, Sender, Target
from deploy.load.tally import Tally

# From the order to the first query: the order has to reach the processes.
_HEAD_START_SECONDS = 0.25
_STOP_SECONDS = 10.0
# The kernel leaves the others a twentieth of each second, whatever runs in real time.
_LEAST_REAL_TIME = 1
_READY = "ready"


class Crew:
    """`with Crew(target, processes=2) as crew: tally = crew.send(rate, seconds, seed=0)`.

    Processes are spawned: gRPC does not survive a fork. Each keeps its connections between loads.
    With `real_time` they run before all others of this machine, so that their own waiting for a
    core is in no latency; entering raises BadEnvironment where that is not allowed.
    """

    def __init__(
        self,
        target: Target,
        *,
        processes: int = 1,
        arrivals: str = "poisson",
        real_time: bool = False,
    ) -> None:
        self._target = target
        self._arrivals = arrivals
        self._count = processes
        self._real_time = real_time
        self._pipes: list[Connection] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = multiprocessing.get_context("spawn")
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(self._target, theirs), daemon=True)
                process.start()
                theirs.close()
                stack.callback(_end, process, ours)
                if self._real_time:
                    # Before it has threads, which inherit that.
                    _run_first(process.pid)
                self._pipes.append(ours)
            for pipe in self._pipes:
                _receive(pipe)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def send(self, rate: float, seconds: float, *, seed: int) -> Tally:
        """Queries at `rate` per second over all processes; returns when each has its outcome.

        Raises BadEnvironment if a process cannot go on.
        """
        due = plan_arrivals(rate, seconds, seed, self._arrivals)
        shapes = draw(self._target.shapes, len(due), seed)
        queries = np.arange(len(due)) % len(self._target.queries)
        begin = time.monotonic() + _HEAD_START_SECONDS
        for number, pipe in enumerate(self._pipes):
            pipe.send(_part(begin, number, self._count, due, shapes, queries))
        tally = Tally()
        for pipe in self._pipes:
            tally.add(_receive(pipe))
        return tally


def _run_first(pid: int | None) -> None:
    assert pid is not None
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(_LEAST_REAL_TIME))
    except (AttributeError, PermissionError) as error:
        raise BadEnvironment(
            "this process may not run others before all the rest of the machine",
            field="real_time",
            remedy="run as root or with CAP_SYS_NICE on Linux, or leave it out",
        ) from error


def _part(
    begin: float, number: int, count: int, due: NDArray[np.float64], *others: NDArray[np.int64]
) -> Part:
    return Part(begin, due[number::count], *(each[number::count] for each in others))


def _receive(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        answer = "it ended"
    if isinstance(answer, str) and answer != _READY:
        raise BadEnvironment(
            f"a process that sends the load failed: {answer}",
            remedy="see whether the address is right and the cluster is up",
        )
    return answer


def _end(process: Any, pipe: Connection) -> None:
    pipe.close()
    process.join(_STOP_SECONDS)
    if process.is_alive():
        process.terminate()
        process.join()


def _work(target: Target, pipe: Connection) -> None:
    """Life of a process: connects, then answers each Part with a Tally until the pipe closes."""
    try:
        asyncio.run(_serve(target, pipe))
    except (grpc.RpcError, OSError, TimeoutError, TriremeError) as error:
        pipe.send(f"{type(error).__name__} {error}".strip())
    except KeyboardInterrupt:
        return


async def _serve(target: Target, pipe: Connection) -> None:
    async with Sender(target) as sender:
        pipe.send(_READY)
        while True:
            try:
                part = await asyncio.to_thread(pipe.recv)
            except (EOFError, KeyboardInterrupt):
                return
            pipe.send(await sender.send(part))
