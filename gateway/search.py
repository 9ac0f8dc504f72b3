"""What happens to a query, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from core.deadline import Deadline
from core.errors import InvalidInput, OutOfTime, ShardUnavailable, TriremeError
from gateway import planning, scatter, trace
from gateway.encoder import QueryEncoder
from gateway.fusion import Blended, Fused, fuse, merge
from gateway.query import (
    DENSE,
    LEXICAL,
    Answer,
    Degradation,
    Fetched,
    Hit,
    Query,
    ShardAnswer,
)
from gateway.rerank import Reranked, Reranker
from gateway.scatter import Leg, Vector
from gateway.topology import Topology, View
from gateway.trace import Trace


class Search:
    """The query path: everything it needs is handed in."""

    def __init__(self, topology: Topology, encoder: QueryEncoder, reranker: Reranker) -> None:
        self._topology = topology
        self._encoder = encoder
        self._reranker = reranker

    async def search(self, query: Query, deadline: Deadline) -> Answer:
        """Answers a query: complete, labelled degraded, or one of the errors in `core.errors`."""
        diary = Trace()
        view = await self._wait(query, diary, deadline)
        legs, vector = await self._ask_legs(view, query, diary, deadline)
        ranked = self._fuse(query, legs, diary)
        ranked, passages = await self._fetch(view, query, ranked, vector, diary, deadline)
        reranked = await self._rerank(query, ranked, passages, diary, deadline)
        return _answer(query, view, legs, reranked, passages, vector is not None, diary)

    async def _wait(self, query: Query, diary: Trace, deadline: Deadline) -> View:
        if not query.min_position.sequences:
            return self._topology.view(query.collection)
        with diary.stage(trace.WAIT):
            patience = planning.share(deadline, planning.WAIT_SHARE)
            view, covered = await self._topology.view_covering(
                query.collection, query.min_position, patience
            )
        if not covered:
            message = "the writes of min_position are not published yet"
            diary.degrade([Degradation(trace.WAIT, "NOT_YET_INDEXED", message)])
        return view

    async def _ask_legs(
        self, view: View, query: Query, diary: Trace, deadline: Deadline
    ) -> tuple[dict[str, Leg], Vector | None]:
        lexical = asyncio.ensure_future(self._lexical(view, query, diary, deadline))
        try:
            vector = await self._encode(view, query, diary, deadline)
            dense = await self._dense(view, query, vector, diary, deadline)
            legs = {DENSE: dense, LEXICAL: await lexical}
        finally:
            lexical.cancel()
        asked = {name: leg for name, leg in legs.items() if leg is not None}
        if not any(leg.answered for leg in asked.values()):
            raise _nothing_answered(asked, deadline)
        return asked, vector

    async def _encode(
        self, view: View, query: Query, diary: Trace, deadline: Deadline
    ) -> Vector | None:
        if DENSE not in query.legs:
            return None
        alone = query.legs == {DENSE}
        patience = deadline if alone else planning.share(deadline, planning.ENCODE_SHARE)
        with diary.stage(trace.ENCODE) as span:
            try:
                encoded = await self._encoder.encode(query.text, view.encoder, patience)
            except InvalidInput:
                raise
            except TriremeError as error:
                if alone:
                    raise
                diary.degrade([Degradation.of(trace.ENCODE, error)])
                return None
            span.inner_microseconds = encoded.triton_microseconds
            return encoded.vector

    async def _dense(
        self, view: View, query: Query, vector: Vector | None, diary: Trace, deadline: Deadline
    ) -> Leg | None:
        if vector is None:
            return None
        with diary.stage(trace.DENSE) as span:
            patience = planning.share(deadline, planning.LEG_SHARE)
            leg = await scatter.ask_dense(view, vector, query.window, patience)
            span.inner_microseconds = leg.slowest_microseconds
        diary.degrade(leg.missing)
        return leg

    async def _lexical(
        self, view: View, query: Query, diary: Trace, deadline: Deadline
    ) -> Leg | None:
        if LEXICAL not in query.legs:
            return None
        with diary.stage(trace.LEXICAL) as span:
            patience = planning.share(deadline, planning.LEG_SHARE)
            leg = await scatter.ask_lexical(view, query.text, query.window, patience)
            span.inner_microseconds = leg.slowest_microseconds
        diary.degrade(leg.missing)
        return leg

    def _fuse(self, query: Query, legs: Mapping[str, Leg], diary: Trace) -> Sequence[Fused]:
        with diary.stage(trace.FUSE):
            merged = {name: merge(leg.rankings, query.window) for name, leg in legs.items()}
            return fuse(merged, query.fusion, max(query.page_size, query.rerank_depth))

    async def _fetch(
        self,
        view: View,
        query: Query,
        ranked: Sequence[Fused],
        vector: Vector | None,
        diary: Trace,
        deadline: Deadline,
    ) -> tuple[Sequence[Fused], Mapping[str, Fetched]]:
        if not ranked:
            return [], {}
        with diary.stage(trace.FETCH):
            patience = deadline.earlier_by(planning.REPLY_SECONDS)
            passages, missing = await scatter.fetch(
                view, ranked, query.rerank_depth, vector, patience
            )
        diary.degrade(missing)
        if not passages:
            deadline.check("the documents could be fetched")
            raise ShardUnavailable("no shard that holds the hits answers", remedy="try again")
        return [fused for fused in ranked if fused.id in passages], passages

    async def _rerank(
        self,
        query: Query,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        diary: Trace,
        deadline: Deadline,
    ) -> Reranked:
        if not query.rerank.enabled or not ranked:
            return Reranked([Blended(fused, fused.score) for fused in ranked], 0)
        with diary.stage(trace.RERANK) as span:
            patience = deadline.earlier_by(planning.REPLY_SECONDS)
            reranked = await self._reranker.reorder(
                query.text, ranked, passages, query.rerank, patience
            )
            span.inner_microseconds = reranked.triton_microseconds
        if reranked.shortfall is not None:
            diary.degrade([reranked.shortfall])
        return reranked


def _answer(
    query: Query,
    view: View,
    legs: Mapping[str, Leg],
    reranked: Reranked,
    passages: Mapping[str, Fetched],
    encoded: bool,
    diary: Trace,
) -> Answer:
    page = reranked.ranking[: query.page_size]
    return Answer(
        hits=[Hit(ranked, passages[ranked.fused.id]) for ranked in page],
        degraded=diary.degraded,
        timings=diary.timings,
        total_microseconds=diary.elapsed_microseconds(),
        shards=[_shard_answer(target.shard, legs) for target in view.targets],
        fusion=query.fusion,
        rerank=query.rerank,
        reranked=reranked.depth,
        encoder=view.encoder if encoded else None,
        reranker=reranked.model,
    )


def _shard_answer(shard: int, legs: Mapping[str, Leg]) -> ShardAnswer:
    used = [leg.answered[shard] for leg in legs.values() if shard in leg.answered]
    if not used:
        return ShardAnswer(shard, False, 0, 0, 0)
    oldest = min(used, key=lambda generation: generation.sequence)
    complete = len(used) == len(legs)
    return ShardAnswer(shard, complete, oldest.epoch, oldest.generation, oldest.sequence)


def _nothing_answered(legs: Mapping[str, Leg], deadline: Deadline) -> TriremeError:
    reasons = "; ".join(missing.message for leg in legs.values() for missing in leg.missing)
    if all(m.reason == "OUT_OF_TIME" for leg in legs.values() for m in leg.missing):
        return OutOfTime(f"no shard answered in time: {reasons}", remedy="allow more time")
    return ShardUnavailable(f"no shard answers: {reasons}", remedy="try again shortly")
