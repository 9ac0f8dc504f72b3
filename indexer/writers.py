"""Threads that write to the document store, one connection each.

Jobs that wait together are committed together. Where there are several threads, jobs with the same
lane go to the same one, in their order, so that writers of one collection do not wait for each
other's locks; jobs without a lane go one by one through a thread of their own.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, Transaction
from sqlalchemy.exc import SQLAlchemyError

from core.errors import BadEnvironment, StoreUnavailable
from indexer.database_errors import is_conflict, is_lost, translated

log = logging.getLogger(__name__)

MAX_GROUP = 16
"""Jobs that share one commit, at most."""

AGAIN_SECONDS = 2.0
"""For so long a commit is tried again: two deadlocks, or a server's restart."""

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25

Result = TypeVar("Result")
Job = Callable[[Connection], Result]


class Writers:
    """`submit(job, lane)`; `close()` ends what was begun."""

    def __init__(self, engine: Engine, threads: int) -> None:
        # One thread does all: then a group may hold any jobs, for nobody else holds a lock.
        general = MAX_GROUP if threads == 1 else 1
        self._general = _Writer(engine, general)
        self._lanes = [_Writer(engine, MAX_GROUP) for _ in range(threads - 1)] or [self._general]

    def submit(self, job: Job[Result], lane: str) -> Future[Result]:
        """The job's result once it is durable; `lane` is any text, empty for none."""
        if not lane:
            return self._general.submit(job)
        return self._lanes[zlib.crc32(lane.encode()) % len(self._lanes)].submit(job)

    def close(self) -> None:
        """Runs what was submitted, then ends the threads."""
        for writer in {self._general, *self._lanes}:
            writer.close()


class _Task(Generic[Result]):
    """A job and the future of its result."""

    def __init__(self, job: Job[Result]) -> None:
        self.job = job
        self.future: Future[Result] = Future()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run(self, connection: Connection, undo: Transaction) -> None:
        """Runs the job, and `undo` if it fails; errors of the database itself are not caught."""
        self._result = self._error = None
        try:
            self._result = self.job(connection)
        except SQLAlchemyError:
            raise
        except Exception as error:
            undo.rollback()
            self._error = error

    def answer(self) -> None:
        """Tells whoever waits, after the commit."""
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]


class _Writer:
    """One writing thread; up to `most` jobs share a commit."""

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._tasks: queue.SimpleQueue[_Task[Any] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="store-write", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Result]) -> Future[Result]:
        if self._closing.is_set():
            raise BadEnvironment("the document store is closed")
        task = _Task(job)
        self._tasks.put(task)
        return task.future

    def close(self) -> None:
        self._closing.set()
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            group = [task]
            while len(group) < self._most and not self._tasks.empty():
                following = self._tasks.get()
                if following is None:
                    self._tasks.put(None)
                    break
                group.append(following)
            self._commit([task for task in group if task.future.set_running_or_notify_cancel()])

    def _commit(self, group: list[_Task[Any]]) -> None:
        """Commits a group or fails it as a whole; tries again while nothing can have come of it."""
        give_up = time.monotonic() + AGAIN_SECONDS
        for attempt in count(1):
            try:
                self._try(group)
            except SQLAlchemyError as error:
                if is_conflict(error) and len(group) > 1:
                    # A batch alone locks in an order that all agree on, several do not.
                    for task in group:
                        self._commit([task])
                    return
                again = is_conflict(error) or is_lost(error)
                if again and time.monotonic() < give_up and not self._closing.is_set():
                    log.info("commit tried again", extra={"attempt": attempt, "why": str(error)})
                    self._pause(attempt)
                    continue
                _fail(group, translated(error), error)
            except BaseException as error:
                _fail(group, error, error.__cause__)
            else:
                for task in group:
                    task.answer()
            return

    def _pause(self, attempt: int) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        self._closing.wait(random.uniform(longest / 2, longest))

    def _try(self, group: list[_Task[Any]]) -> None:
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                _run(group, connection, transaction)
            except BaseException:
                transaction.rollback()
                raise
            if not transaction.is_active:
                return
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if is_lost(error):
                    raise StoreUnavailable(
                        "the document store went away during a commit, which may have succeeded",
                        remedy="send it again with the same request id",
                    ) from error
                raise


def _run(group: list[_Task[Any]], connection: Connection, transaction: Transaction) -> None:
    """Runs jobs so that each can be undone alone: one by rolling back, several by savepoints."""
    if len(group) == 1:
        group[0].run(connection, transaction)
        return
    for task in group:
        savepoint = connection.begin_nested()
        task.run(connection, savepoint)
        if savepoint.is_active:
            savepoint.commit()


def _fail(group: list[_Task[Any]], failure: BaseException, cause: BaseException | None) -> None:
    failure.__cause__ = cause
    for task in group:
        task.future.set_exception(failure)
