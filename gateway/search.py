"""What happens to a query, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.deadline import Deadline
from core.errors import ShardUnavailable
from gateway import planning, scatter, trace
from gateway.encoder import QueryEncoder
from gateway.fusion import Blended, Fused, fuse
from gateway.legs import LegRunner, Legs
from gateway.query import Answer, Degradation, Fetched, Hit, Query, ShardAnswer
from gateway.rerank import Reranked, Reranker
from gateway.scatter import Leg
from gateway.topology import Topology, View
from gateway.trace import Trace


class Search:
    """The query path: everything it needs is handed in."""

    def __init__(self, topology: Topology, encoder: QueryEncoder, reranker: Reranker) -> None:
        self._topology = topology
        self._encoder = encoder
        self._legs = LegRunner(encoder)
        self._reranker = reranker

    async def search(self, query: Query, deadline: Deadline) -> Answer:
        """Answers a query: complete, labelled degraded, or one of the errors in `core.errors`."""
        diary = Trace()
        view = await self._wait(query, diary, deadline)
        legs = await self._legs.ask(view, query, diary, deadline)
        ranked = self._fuse(query, legs, diary)
        ranked, passages = await self._fetch(view, query, ranked, legs, diary, deadline)
        reranked = await self._rerank(view, query, ranked, passages, diary, deadline)
        return _answer(query, view, legs, reranked, passages, diary)

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

    def _fuse(self, query: Query, legs: Legs, diary: Trace) -> Sequence[Fused]:
        with diary.stage(trace.FUSE):
            rankings = {name: leg.ranking for name, leg in legs.found.items()}
            return fuse(rankings, query.fusion, query.head)

    async def _fetch(
        self,
        view: View,
        query: Query,
        ranked: Sequence[Fused],
        legs: Legs,
        diary: Trace,
        deadline: Deadline,
    ) -> tuple[Sequence[Fused], Mapping[str, Fetched]]:
        if not ranked:
            return [], {}
        here = {id: document for leg in legs.found.values() for id, document in leg.head.items()}
        lacking = [fused for fused in ranked if fused.id not in here]
        with diary.stage(trace.FETCH):
            patience = deadline.earlier_by(planning.REPLY_SECONDS)
            fetched, missing = await scatter.fetch(
                view, lacking, query.rerank_depth, legs.meaning, patience
            )
        diary.degrade(missing)
        passages = here | fetched
        if not passages:
            deadline.check("the documents could be fetched")
            raise ShardUnavailable("no shard that holds the hits answers", remedy="try again")
        return [fused for fused in ranked if fused.id in passages], passages

    async def _rerank(
        self,
        view: View,
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
                query.text,
                ranked,
                passages,
                query.rerank,
                patience,
                tokenizer_sha256=await self._encoder.stored_tokens(view.encoder, patience),
            )
            span.inner_microseconds = reranked.triton_microseconds
        if reranked.shortfall is not None:
            diary.degrade([reranked.shortfall])
        return reranked


def _answer(
    query: Query,
    view: View,
    legs: Legs,
    reranked: Reranked,
    passages: Mapping[str, Fetched],
    diary: Trace,
) -> Answer:
    page = reranked.ranking[: query.page_size]
    return Answer(
        hits=[Hit(ranked, passages[ranked.fused.id]) for ranked in page],
        degraded=diary.degraded,
        timings=diary.timings,
        total_microseconds=diary.elapsed_microseconds(),
        shards=[_shard_answer(target.shard, legs.found) for target in view.targets],
        fusion=query.fusion,
        rerank=query.rerank,
        reranked=reranked.depth,
        encoder=view.encoder if legs.meaning.vector is not None else None,
        sparse_encoder=view.sparse_encoder if legs.meaning.terms is not None else None,
        reranker=reranked.model,
    )


def _shard_answer(shard: int, legs: Mapping[str, Leg]) -> ShardAnswer:
    used = [leg.answered[shard] for leg in legs.values() if shard in leg.answered]
    if not used:
        return ShardAnswer(shard, False, 0, 0, 0)
    oldest = min(used, key=lambda generation: generation.sequence)
    complete = len(used) == len(legs)
    return ShardAnswer(shard, complete, oldest.epoch, oldest.generation, oldest.sequence)
