"""What happens to a query, in order: candidates are found and frozen, pages are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.deadline import Deadline
from core.errors import PageTokenExpired, ShardUnavailable, TriremeError
from gateway import planning, scatter, trace
from gateway.candidates import Candidates, Place
from gateway.coverage import check_coverage, coverage
from gateway.encoder import QueryEncoder
from gateway.filtering import check_filter
from gateway.found import Found
from gateway.fusion import Fused, fuse
from gateway.grouping import Grouping
from gateway.legs import LegRunner
from gateway.page_token import PageTokens
from gateway.pages import Page, page_of
from gateway.query import Answer, Degradation, Fetched, Query
from gateway.rerank import Reranked, Reranker
from gateway.scatter import Meaning
from gateway.topology import Topology
from gateway.trace import Trace
from gateway.view import View
from gateway.walk import Walk, pin


@dataclass(frozen=True, slots=True)
class Searched:
    """An answer and the walk that it is a page of."""

    walk: Walk
    answer: Answer


class Search:
    """The query path: everything it needs is handed in."""

    def __init__(
        self, topology: Topology, encoder: QueryEncoder, reranker: Reranker, tokens: PageTokens
    ) -> None:
        self._topology = topology
        self._encoder = encoder
        self._legs = LegRunner(encoder)
        self._grouping = Grouping(self._legs)
        self._reranker = reranker
        self._tokens = tokens

    async def search(self, query: Query, deadline: Deadline) -> Answer:
        """Answers a query: complete, labelled degraded, or one of the errors in `core.errors`."""
        return (await self.run(query, deadline)).answer

    async def run(self, query: Query, deadline: Deadline) -> Searched:
        """As `search`, with what stands behind the answer."""
        diary = Trace()
        begin = self._go_on if query.page_token else self._begin
        walk = await begin(query, diary, deadline)
        page = page_of(walk.place.candidates, walk.query, walk.place.offset)
        passages = await self._complete(walk, page, diary, deadline)
        return Searched(walk, walk.answer(page, passages, self._next_token(walk, page), diary))

    async def _begin(self, query: Query, diary: Trace, deadline: Deadline) -> Walk:
        """Finds the candidates and freezes them."""
        view, covered = await self._wait(query, diary, deadline)
        check_filter(query.filter, view, covered=covered)
        query = query.settled(view.search_defaults)
        found = await self._find(view, query, diary, deadline)
        head = found.head()
        passages = await self._fetch(found, head, diary, deadline)
        ranked = [fused for fused in head if fused.id in passages]
        reranked = await self._rerank(found, ranked, passages, diary, deadline)
        lost = [fused.id for fused in head if fused.id not in passages]
        candidates = found.freeze(reranked, lost, diary.degraded)
        place = Place(candidates, 0, self._tokens.expiry())
        return Walk(found.query, view, place, found.legs.meaning, passages, found.legs)

    async def _go_on(self, query: Query, diary: Trace, deadline: Deadline) -> Walk:
        """Goes on from a page token: nothing is searched again."""
        place = self._tokens.read(query.page_token, query.digest)
        view = pin(self._topology.view_of(query.collection, place.candidates.uid), place)
        diary.degrade(place.candidates.degraded)
        meaning = await self._meaning(view, query, place.candidates, diary, deadline)
        return Walk(query, view, place, meaning, {})

    async def _wait(self, query: Query, diary: Trace, deadline: Deadline) -> tuple[View, bool]:
        """The collection as it is to be searched, and whether it covers what is waited for."""
        if not query.min_position.sequences:
            return self._topology.view(query.collection), True
        with diary.stage(trace.WAIT):
            patience = planning.share(deadline, planning.WAIT_SHARE)
            view, covered = await self._topology.view_covering(
                query.collection, query.min_position, patience
            )
        if not covered:
            message = "the writes of min_position are not published yet"
            diary.degrade([Degradation(trace.WAIT, "NOT_YET_INDEXED", message)])
        return view, covered

    async def _find(self, view: View, query: Query, diary: Trace, deadline: Deadline) -> Found:
        """Asks the legs, and for the groups of what they found; fuses them."""
        legs, memberships = await self._legs.ask(view, query, diary, deadline), None
        if query.group_by:
            grouped = await self._grouping.group(view, query, legs, diary, deadline)
            query, legs, memberships = grouped.query, grouped.legs, grouped.memberships
        covered = coverage(legs.found, query.legs or view.legs, len(view.targets))
        check_coverage(covered, query.min_coverage)
        with diary.stage(trace.FUSE):
            rankings = {name: leg.ranking for name, leg in legs.found.items()}
            order = fuse(rankings, query.fusion)
        return Found(query, view, legs, order, covered, memberships)

    async def _fetch(
        self, found: Found, head: Sequence[Fused], diary: Trace, deadline: Deadline
    ) -> Mapping[str, Fetched]:
        if not head:
            return {}
        legs, depth = found.legs, found.query.rerank_depth
        here = {id: document for leg in legs.found.values() for id, document in leg.head.items()}
        lacking = [fused for fused in head if fused.id not in here]
        patience = planning.share(deadline, planning.FETCH_SHARE) if depth else deadline
        with diary.stage(trace.FETCH):
            fetched, missing = await scatter.fetch(
                found.view, lacking, depth, legs.meaning, patience
            )
        diary.degrade(missing)
        return _some(here | fetched, deadline)

    async def _rerank(
        self,
        found: Found,
        ranked: Sequence[Fused],
        passages: Mapping[str, Fetched],
        diary: Trace,
        deadline: Deadline,
    ) -> Reranked:
        query = found.query
        if not query.rerank.enabled or not ranked:
            return Reranked()
        patience = deadline
        if query.highlight:
            patience = planning.share(deadline, planning.RERANK_SHARE_BEFORE_HIGHLIGHTS)
        with diary.stage(trace.RERANK) as span:
            reranked = await self._reranker.judge(
                query.text,
                ranked,
                passages,
                query.rerank,
                patience,
                tokenizer_sha256=await self._encoder.stored_tokens(found.view.encoder, patience),
            )
            span.inner_microseconds = reranked.triton_microseconds
        if reranked.shortfall is not None:
            diary.degrade([reranked.shortfall])
        return reranked

    async def _meaning(
        self, view: View, query: Query, candidates: Candidates, diary: Trace, deadline: Deadline
    ) -> Meaning:
        """What best passages are chosen by, as on the first page; nothing if Triton is away."""
        patience = planning.share(deadline, planning.ENCODE_SHARE)
        stage = trace.ENCODE if candidates.encoder is not None else trace.ENCODE_SPARSE
        try:
            if (model := candidates.encoder) is not None:
                with diary.stage(stage) as span:
                    encoded = await self._encoder.encode(
                        query.text, model, patience, dimension=view.dimension
                    )
                    span.inner_microseconds = encoded.triton_microseconds
                return Meaning(vector=encoded.vector)
            if (model := candidates.sparse_encoder) is not None:
                with diary.stage(stage) as span:
                    weighed = await self._encoder.encode_sparse(query.text, model, patience)
                    span.inner_microseconds = weighed.triton_microseconds
                return Meaning(terms=weighed.terms)
        except TriremeError as error:
            shortfall = Degradation.of(stage, error)
            message = f"passages are the first of their documents: {shortfall.message}"
            diary.degrade([replace(shortfall, message=message)])
        return Meaning()

    async def _complete(
        self, walk: Walk, page: Page, diary: Trace, deadline: Deadline
    ) -> Mapping[str, Fetched]:
        """The documents of the page, with the query's words marked if it asks for that."""
        query, shown = walk.query, page.shown
        lacking = [each for each in shown if query.highlight or each.id not in walk.passages]
        if not lacking:
            return walk.passages
        with diary.stage(trace.FETCH):
            fetched, missing = await scatter.fetch(
                walk.view,
                lacking,
                0,
                walk.meaning,
                deadline,
                highlight=query.text if query.highlight else "",
                pinned=bool(query.page_token),
            )
        for each in missing:
            if each.reason == PageTokenExpired.reason:
                raise PageTokenExpired(
                    each.message, field="page_token", remedy="start again with an empty token"
                )
        diary.degrade(missing)
        return _some({**walk.passages, **fetched}, deadline)

    def _next_token(self, walk: Walk, page: Page) -> str:
        if page.next_offset is None:
            return ""
        place = replace(walk.place, offset=page.next_offset)
        return self._tokens.write(place, walk.query.digest)


def _some(passages: Mapping[str, Fetched], deadline: Deadline) -> Mapping[str, Fetched]:
    """These documents; raises OutOfTime or ShardUnavailable if there is none."""
    if not passages:
        deadline.check("the documents could be fetched")
        raise ShardUnavailable("no shard that holds the hits answers", remedy="try again")
    return passages
