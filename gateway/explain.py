"""Why a document is where it is in an answer, or why it is not there: told in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.deadline import Deadline
from core.documents import shard_of
from core.errors import OutOfTime, TriremeError, Unreachable
from gateway import scatter, trace
from gateway.fusion import Blended, Fused
from gateway.legs import LegRunner
from gateway.query import DENSE, LEXICAL, SPARSE, Answer, Degradation, Fetched, Hit, Query
from gateway.scatter import Leg
from gateway.search import Search, Searched
from gateway.stored import StoredDocuments
from gateway.trace import Trace
from gateway.verdict import (
    DEEPEST,
    LegOutcome,
    Verdict,
    excluded,
    filtered,
    judge,
    not_indexed,
    shard_missing,
)
from gateway.walk import Walk

# The search itself gets this part of the time, so that some is left for looking deeper.
SEARCH_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a document fared: the verdict, its final rank (0: none), its legs one by one.

    `hit` is None if its shard does not have it or does not answer.
    """

    verdict: Verdict
    rank: int
    hit: Hit | None
    legs: Sequence[LegOutcome]
    answer: Answer


class Explainer:
    """Repeats a search and follows one document through it."""

    def __init__(self, search: Search, legs: LegRunner, stored: StoredDocuments) -> None:
        self._search = search
        self._legs = legs
        self._stored = stored

    async def explain(self, query: Query, document_id: str, deadline: Deadline) -> Explanation:
        """How `document_id` fares in the search; raises what the search raises.

        Raises NotFound if the collection has no such document, IndexerUnavailable if its shard does
        not have it and nobody can say whether it is stored.
        """
        patience = deadline.at_most(deadline.remaining() * SEARCH_SHARE)
        searched = await self._search.run(query, patience)
        walk = searched.walk
        shard = shard_of(document_id, len(walk.view.targets))
        rank, ranked = _final(walk, document_id, shard)
        (fetched, lost), legs = await asyncio.gather(
            self._fetch(searched, ranked.fused, deadline),
            self._follow(walk, document_id, shard, deadline),
        )
        if fetched is None:
            verdict = await self._unreturned(walk, document_id, shard, lost, deadline)
        elif fetched.unmet:
            verdict = filtered(fetched.unmet)
        elif fetched.violated is not None:
            verdict = excluded(fetched.violated)
        else:
            verdict = judge(document_id, walk.query, walk.place.candidates, legs, shard)
        hit = None if fetched is None else Hit(ranked, fetched)
        return Explanation(verdict, rank, hit, legs, searched.answer)

    async def _fetch(
        self, searched: Searched, fused: Fused, deadline: Deadline
    ) -> tuple[Fetched | None, Sequence[Degradation]]:
        """The document as the searched generation has it, and why not."""
        answer, walk = searched.answer, searched.walk
        for hit in (*answer.hits, *(hit for group in answer.groups for hit in group.hits)):
            if hit.ranked.fused.id == fused.id:
                return hit.fetched, ()
        highlight = walk.query.text if walk.query.highlight else ""
        fetched, lost = await scatter.fetch(
            walk.view,
            [fused],
            0,
            walk.meaning,
            deadline,
            highlight=highlight,
            judged_by=walk.query,
        )
        return fetched.get(fused.id), lost

    async def _follow(
        self, walk: Walk, document_id: str, shard: int, deadline: Deadline
    ) -> list[LegOutcome]:
        """How the document fared in each leg, as far down as it takes."""
        found = walk.legs.found if walk.legs is not None else {}
        wanted = walk.query.legs or walk.view.legs
        names = [name for name in (DENSE, LEXICAL, SPARSE) if name in wanted]
        outside = frozenset(n for n in names if not _place(found.get(n), document_id))
        deeper = await self._look_deeper(walk, outside, deadline) if outside else {}
        return [_outcome(n, document_id, shard, walk, found, deeper) for n in names]

    async def _look_deeper(
        self, walk: Walk, names: frozenset[str], deadline: Deadline
    ) -> Mapping[str, Leg]:
        # So long a page has no likely head: no documents come along that nobody wants.
        query = replace(walk.query, legs=names, window=DEEPEST, page_size=DEEPEST, group_by="")
        try:
            return (await self._legs.ask(walk.view, query, Trace(), deadline)).found
        except TriremeError:
            return {}

    async def _unreturned(
        self,
        walk: Walk,
        document_id: str,
        shard: int,
        lost: Sequence[Degradation],
        deadline: Deadline,
    ) -> Verdict:
        """The verdict on a document that its shard did not return."""
        try:
            version = await self._stored.version(walk.query.collection, document_id, deadline)
        except (Unreachable, OutOfTime):
            if not lost:
                raise
        if not lost:
            return not_indexed(version, shard, walk.view.targets[shard].generation)
        silent = [each for each in walk.place.candidates.degraded if shard in each.shards]
        return shard_missing(silent[0].stage if silent else trace.FETCH, lost[0].message)


def _final(walk: Walk, document_id: str, shard: int) -> tuple[int, Blended]:
    """The document's final rank, and its scores; none of both if it is no candidate."""
    for rank, ranked in enumerate(walk.place.candidates.ranking(), start=1):
        if ranked.fused.id == document_id:
            return rank, ranked
    return 0, Blended(Fused(document_id, shard, 0.0, 0, {}), 0.0)


def _place(leg: Leg | None, document_id: str) -> tuple[int, float] | None:
    """A document's rank and score in a leg."""
    for rank, (id, score, _) in enumerate(leg.ranking if leg is not None else (), start=1):
        if id == document_id:
            return rank, score
    return None


def _outcome(
    name: str,
    document_id: str,
    shard: int,
    walk: Walk,
    found: Mapping[str, Leg],
    deeper: Mapping[str, Leg],
) -> LegOutcome:
    leg, below = found.get(name), deeper.get(name)
    within, anywhere = _place(leg, document_id), _place(below, document_id)
    rank, score = within or anywhere or (0, 0.0)
    return LegOutcome(
        leg=name,
        rank=rank,
        score=score,
        window=walk.query.window,
        last_score=leg.ranking.scores[-1] if leg is not None and leg.ranking else 0.0,
        within_window=within is not None,
        answered=leg is not None and shard in leg.answered,
        depth=len(below.ranking) if below is not None and shard in below.answered else 0,
    )
