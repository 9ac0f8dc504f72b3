"""Asks every leg of a query at the same time; what falls short is noted, not raised.

    lexical  count words -- search -------------\
    sparse   encode (Triton) -- search ---------+-> found, and what the encoders made of the query
    dense    encode (Triton) -- search ---------/   (brings the documents of the likely head along)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from core.deadline import Deadline
from core.errors import InvalidInput, NoSuchLeg, OutOfTime, ShardUnavailable, TriremeError
from gateway import planning, scatter, trace
from gateway.encoder import EncodedQuery, EncodedTerms, QueryEncoder
from gateway.query import DENSE, LEXICAL, SPARSE, Degradation, FilterPlan, Query
from gateway.scatter import Leg, LikelyHeads, Meaning
from gateway.statistics import Statistics, gather_statistics
from gateway.trace import Trace
from gateway.view import View

Encoded = TypeVar("Encoded", EncodedQuery, EncodedTerms)
Result = TypeVar("Result")

# Steps of the event loop after which the encoders' requests are on their way: they are what
# everybody waits for, and setting the other calls up before would hold them back.
_STEPS_TO_SEND = 3


@dataclass(frozen=True, slots=True)
class Legs:
    """What the legs found, by their names, and what the encoders made of the query."""

    found: Mapping[str, Leg]
    meaning: Meaning

    def plan(self, query: Query) -> FilterPlan | None:
        """How the query's filter was applied; None without one."""
        if query.filter is None:
            return None
        plans = {name: leg.plan for name, leg in self.found.items() if leg.plan is not None}
        return FilterPlan(str(query.filter), plans)


class LegRunner:
    """Runs the legs of queries, one `_Run` each."""

    def __init__(self, encoder: QueryEncoder) -> None:
        self._encoder = encoder

    async def ask(self, view: View, query: Query, diary: Trace, deadline: Deadline) -> Legs:
        """Asks the legs that the query wants, or all that the collection has.

        Raises NoSuchLeg if it lacks one, InvalidInput if an encoder cannot read the query,
        ShardUnavailable, OutOfTime or what an encoder raised if no leg answered at all.
        """
        if lacking := query.legs - view.legs:
            raise NoSuchLeg(
                f"has no {' and no '.join(sorted(lacking))} leg",
                field=view.name,
                remedy="search with mode HYBRID, or create it with a sparse encoder",
            )
        wanted = query.legs or view.legs
        return await _Run(self._encoder, view, query, wanted, diary, deadline).legs()


class _Run:
    """One query on its way through its legs."""

    def __init__(
        self,
        encoder: QueryEncoder,
        view: View,
        query: Query,
        wanted: frozenset[str],
        diary: Trace,
        deadline: Deadline,
    ) -> None:
        self._encoder = encoder
        self._view = view
        self._query = query
        self._wanted = wanted
        self._diary = diary
        self._deadline = deadline
        self._failures: list[TriremeError] = []
        self._likely: LikelyHeads = {}

    async def legs(self) -> Legs:
        with ExitStack() as stack:
            encoding = self._started(DENSE, self._encode_dense, stack)
            weighing = self._started(SPARSE, self._encode_sparse, stack)
            for _ in range(_STEPS_TO_SEND):
                await asyncio.sleep(0)
            lexical = self._started(LEXICAL, self._lexical, stack)
            sparse = self._started(SPARSE, partial(self._sparse, weighing), stack)
            self._started(DENSE, partial(self._guess, lexical, sparse), stack)
            encoded = await encoding
            dense = await self._dense(encoded)
            legs = {DENSE: dense, LEXICAL: await lexical, SPARSE: await sparse}
            weighed = await weighing
        found = {name: leg for name, leg in legs.items() if leg is not None}
        if not any(leg.answered for leg in found.values()):
            raise self._nothing_answered(found)
        vector = encoded.vector if encoded is not None else None
        return Legs(found, Meaning(vector, weighed.terms if weighed is not None else None))

    async def _encode_dense(self) -> EncodedQuery | None:
        view, text = self._view, self._query.text
        return await self._encode(
            trace.ENCODE,
            lambda patience: self._encoder.encode(
                text, view.encoder, patience, dimension=view.dimension
            ),
        )

    async def _encode_sparse(self) -> EncodedTerms | None:
        model, text = self._view.sparse_encoder, self._query.text
        if model is None:
            return None
        return await self._encode(
            trace.ENCODE_SPARSE,
            lambda patience: self._encoder.encode_sparse(text, model, patience),
        )

    async def _lexical(self) -> Leg:
        view, query = self._view, self._query
        statistics = await self._statistics()
        return await self._search(
            trace.LEXICAL,
            lambda patience: scatter.ask_lexical(view, query, statistics, patience),
        )

    async def _statistics(self) -> Statistics | None:
        """Those of all shards that answer; None where each shard's own will do."""
        if len(self._view.targets) == 1:
            return None
        patience = planning.share(self._deadline, planning.STATISTICS_SHARE)
        with self._diary.stage(trace.STATISTICS):
            found, missing = await gather_statistics(self._view, self._query.text, patience)
        self._diary.degrade(missing)
        return found

    async def _dense(self, encoded: EncodedQuery | None) -> Leg | None:
        if encoded is None:
            return None
        view, query, vector = self._view, self._query, encoded.vector
        return await self._search(
            trace.DENSE,
            lambda patience: scatter.ask_dense(view, vector, query, self._likely, patience),
        )

    async def _sparse(self, weighing: asyncio.Future[EncodedTerms | None]) -> Leg | None:
        encoded = await weighing
        if encoded is None:
            return None
        return await self._search(
            trace.SPARSE,
            lambda patience: scatter.ask_sparse(self._view, encoded.terms, self._query, patience),
        )

    async def _guess(
        self, lexical: asyncio.Future[Leg | None], sparse: asyncio.Future[Leg | None]
    ) -> None:
        """Notes what shards need to guess the head, while the query is still being embedded."""
        if self._query.head > planning.MAX_LIKELY_HEAD:
            return
        known: dict[str, Leg] = {}
        for name, asked in ((LEXICAL, lexical), (SPARSE, sparse)):
            leg = await asked
            if leg is not None:
                known[name] = leg
            if leg is not None or not self._likely:
                self._likely = scatter.likely_heads(self._view, self._query, known)

    async def _encode(
        self, stage: str, encode: Callable[[Deadline], Awaitable[Encoded]]
    ) -> Encoded | None:
        is_alone = len(self._wanted) == 1
        share = planning.share(self._deadline, planning.ENCODE_SHARE)
        with self._diary.stage(stage) as span:
            try:
                encoded = await encode(self._deadline if is_alone else share)
            except InvalidInput:
                raise
            except TriremeError as error:
                self._failures.append(error)
                self._diary.degrade([Degradation.of(stage, error)])
                return None
            span.inner_microseconds = encoded.triton_microseconds
            return encoded

    async def _search(self, stage: str, search: Callable[[Deadline], Awaitable[Leg]]) -> Leg:
        with self._diary.stage(stage) as span:
            leg = await search(planning.share(self._deadline, planning.LEG_SHARE))
            span.inner_microseconds = leg.slowest_microseconds
        self._diary.degrade(leg.missing)
        return leg

    def _started(
        self, leg: str, work: Callable[[], Coroutine[Any, Any, Result]], stack: ExitStack
    ) -> asyncio.Future[Result | None]:
        """Does some work for a leg beside the caller, at most until the end of `stack`.

        None comes of it if the leg is not wanted.
        """
        if leg not in self._wanted:
            nothing: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        task: asyncio.Task[Result | None] = asyncio.create_task(work())
        task.add_done_callback(_retrieve)
        stack.callback(task.cancel)
        return task

    def _nothing_answered(self, found: Mapping[str, Leg]) -> TriremeError:
        if not found:
            return self._failures[0]
        missing = [each for leg in found.values() for each in leg.missing]
        reasons = "; ".join(each.message for each in missing)
        if all(each.reason == "OUT_OF_TIME" for each in missing):
            return OutOfTime(f"no shard answered in time: {reasons}", remedy="allow more time")
        return ShardUnavailable(f"no shard answers: {reasons}", remedy="try again shortly")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Takes a failure, so that one that nobody waits for any more is not reported as lost."""
    if not task.cancelled():
        task.exception()
