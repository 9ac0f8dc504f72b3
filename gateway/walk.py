"""One walk over the pages of an answer, and the page that it has come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.errors import PageTokenExpired
from gateway.candidates import Place
from gateway.fusion import Blended
from gateway.legs import Legs
from gateway.pages import Page
from gateway.query import Answer, Fetched, Hit, HitGroup, Query
from gateway.scatter import Meaning
from gateway.trace import Trace
from gateway.view import View


@dataclass(frozen=True, slots=True)
class Walk:
    """A settled query at a place among its candidates.

    `passages` are documents that are at hand already, by id. `legs` is None after the first page,
    for which `view` is pinned to the generations of the candidates.
    """

    query: Query
    view: View
    place: Place
    meaning: Meaning
    passages: Mapping[str, Fetched]
    legs: Legs | None = None

    def answer(
        self, page: Page, passages: Mapping[str, Fetched], next_page_token: str, diary: Trace
    ) -> Answer:
        """The page with those of its documents that could be had."""
        candidates = self.place.candidates
        return Answer(
            hits=_hits(page.hits, passages),
            groups=[
                HitGroup(
                    value=group.value,
                    hits=_hits(group.members[: page.group_size], passages),
                    size=len(group.members),
                )
                for group in page.groups or ()
            ],
            degraded=diary.degraded,
            timings=diary.timings,
            total_microseconds=diary.elapsed_microseconds(),
            shards=candidates.shards,
            fusion=candidates.fusion,
            rerank=candidates.rerank,
            reranked=len(candidates.logits),
            window=candidates.window,
            coverage=candidates.coverage,
            candidate_count=len(candidates),
            encoder=candidates.encoder,
            sparse_encoder=candidates.sparse_encoder,
            reranker=candidates.reranker,
            next_page_token=next_page_token,
            expires=self.place.expires if next_page_token else None,
            filter_plan=self.legs.plan(self.query) if self.legs is not None else None,
            understood=self.query.understood,
        )


def _hits(ranking: Sequence[Blended], passages: Mapping[str, Fetched]) -> list[Hit]:
    return [
        Hit(ranked, passages[ranked.fused.id]) for ranked in ranking if ranked.fused.id in passages
    ]


def pin(view: View, place: Place) -> View:
    """The collection as the first page saw it; raises PageTokenExpired if that is gone."""
    candidates = place.candidates
    if candidates.uid != view.uid:
        raise PageTokenExpired(
            f"what {view.name!r} stands for has changed, and its first page is gone",
            field="page_token",
            remedy="start again with an empty token",
        )
    seen = {answer.shard: answer for answer in candidates.shards if answer.generation}
    targets = [
        replace(target, epoch=then.epoch, generation=then.generation, sequence=then.sequence)
        if (then := seen.get(target.shard)) is not None
        else target
        for target in view.targets
    ]
    return replace(view, targets=targets)
