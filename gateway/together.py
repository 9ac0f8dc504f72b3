"""Queries that come up while others are being embedded are embedded together.

Triton merges requests of equal shape only, so queries of different lengths stay alone there, and a
request for one short query takes half as long as one for four: most of it is reading the weights.
So a second request goes beside the first only when it has company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from core.batching import INSTANCES
from core.deadline import Deadline
from core.encoding import Ids
from core.errors import BadModelOutput, OutOfTime
from core.security.caller import ANYBODY, current_caller, set_caller

# More of them save no further time per query, and whoever comes next waits for all of them.
MOST_TOGETHER = 8
# So many at least go beside another request.
COMPANY = 2

Found = TypeVar("Found")
Encode = Callable[[Sequence[Ids], Deadline], Awaitable[Sequence[Found]]]
"""Token ids of several texts to what a model makes of each of them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Found]):
    """One query that waits for the next request."""

    ids: Ids
    deadline: Deadline
    found: asyncio.Future[Found]
    context: Context = field(default_factory=copy_context)


class Together(Generic[Found]):
    """One model's queries: `at_once` requests are under way at most, one per instance of a model.

    Whoever finds none of them sends its own at once; beside another, COMPANY of them go together.
    The model adds `special_tokens` to every text.
    """

    def __init__(
        self, encode: Encode[Found], *, special_tokens: int = 0, at_once: int = INSTANCES
    ) -> None:
        self._encode = encode
        self._special_tokens = special_tokens
        self._at_once = at_once
        self._running = 0
        self._waiting: deque[_Waiting[Found]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def encode(self, ids: Ids, deadline: Deadline) -> Found:
        """What the model makes of one query's token ids; raises what `Encode` does, or OutOfTime.

        Its tokens are counted against its own caller's quota, whoever it shares a request with.
        """
        if self._running == 0:
            self._running += 1
            try:
                (alone,) = await self._encode([ids], deadline)
                return alone
            finally:
                self._ended()
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(ids, deadline, found))
        self._begin()
        try:
            async with asyncio.timeout(deadline.remaining()):
                shared = await found
        except TimeoutError as error:
            raise OutOfTime(
                "the deadline passed while the query waited to be embedded",
                remedy="allow more time",
            ) from error
        if (meter := current_caller().meter).counts_tokens:
            meter.model_tokens(len(ids) + self._special_tokens)
        return shared

    def _ended(self) -> None:
        """A request has come back: the next one may go."""
        self._running -= 1
        self._begin()

    def _begin(self) -> None:
        """Sends what waits as far as it may go."""
        while self._may_begin() and (queries := self._next()):
            self._running += 1
            # In the trace of the first, but at nobody's expense: each pays for itself.
            context = queries[0].context
            context.run(set_caller, ANYBODY)
            task = asyncio.get_running_loop().create_task(self._send(queries), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._sent)

    def _may_begin(self) -> bool:
        if self._running == 0:
            return True
        return self._running < self._at_once and len(self._waiting) >= COMPANY

    def _next(self) -> list[_Waiting[Found]]:
        """The queries of the next request, without those that nobody waits for any more."""
        queries: list[_Waiting[Found]] = []
        while self._waiting and len(queries) < MOST_TOGETHER:
            query = self._waiting.popleft()
            if not query.found.done():
                queries.append(query)
        return queries

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended()

    async def _send(self, queries: Sequence[_Waiting[Found]]) -> None:
        latest = max((query.deadline for query in queries), key=lambda deadline: deadline.at)
        try:
            results = await self._encode([query.ids for query in queries], latest)
        except BadModelOutput as error:
            if len(queries) == 1:
                _fail(queries, error)
                return
            # One of them may be to blame: the others must not suffer for it.
            await asyncio.gather(*(self._send([query]) for query in queries))
        except Exception as error:
            _fail(queries, error)
        else:
            for query, result in zip(queries, results, strict=True):
                if not query.found.done():
                    query.found.set_result(result)

    def __repr__(self) -> str:
        return f"<Together {self._running} under way, {len(self._waiting)} wait>"


def _fail(queries: Sequence[_Waiting[Found]], error: Exception) -> None:
    for query in queries:
        if not query.found.done():
            query.found.set_exception(error)
