"""How far a document came in a search, and by how much it fell short: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.query_syntax import Constraint
from core.ranking_wish import MAX_WINDOW
from gateway import trace
from gateway.candidates import Candidates
from gateway.fusion import Blended
from gateway.query import DENSE, LEXICAL, SPARSE, Query
from gateway.standing import Standing, standing

RETURNED = "RETURNED"
NOT_INDEXED = "NOT_INDEXED"
SHARD_MISSING = "SHARD_MISSING"
NOT_A_CANDIDATE = "NOT_A_CANDIDATE"
BELOW_PAGE = "BELOW_PAGE"
RERANKED_AWAY = "RERANKED_AWAY"
GROUPED_AWAY = "GROUPED_AWAY"
LEG_MISSING = "LEG_MISSING"
EXCLUDED = "EXCLUDED"
FILTERED = "FILTERED"

# A leg's ranking is looked at down to here.
DEEPEST = 10_000

_STAGES_OF = {
    DENSE: (trace.ENCODE, trace.DENSE),
    LEXICAL: (trace.LEXICAL,),
    SPARSE: (trace.ENCODE_SPARSE, trace.SPARSE),
}
_NOTHING_IN_COMMON = {
    DENSE: "it has no vector there",
    LEXICAL: "it holds none of the query's words",
    SPARSE: "it holds none of the query's weighted terms",
}


@dataclass(frozen=True, slots=True)
class LegOutcome:
    """How a document fared in one leg.

    `rank` is 0 if it is not among the first `depth` of the leg's ranking. `answered` says whether
    the leg answered on the document's shard.
    """

    leg: str
    rank: int
    score: float
    window: int
    last_score: float
    within_window: bool
    answered: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far it came, the stage at which it fell out ("": it did not), and the same for people."""

    outcome: str
    stage: str
    message: str


def judge(
    document_id: str, query: Query, candidates: Candidates, legs: Sequence[LegOutcome], shard: int
) -> Verdict:
    """The verdict on a document that its shard has; `query` is settled."""
    if document_id in candidates.left_out:
        return _left_out(candidates, shard)
    if any(leg.within_window for leg in legs):
        return _candidate(document_id, query, candidates)
    # A leg that has it below its window would not have helped.
    if silent := [leg for leg in legs if not leg.answered and leg.rank <= leg.window]:
        return _not_asked(silent[0], legs, candidates, shard)
    return _not_a_candidate(legs)


def filtered(unmet: Sequence[str]) -> Verdict:
    """The verdict on a document that does not match these parts of the filter."""
    parts = " and ".join(f"`{part}`" for part in unmet)
    return Verdict(FILTERED, trace.FILTER, f"it does not match {parts} of the filter")


def excluded(violated: Constraint) -> Verdict:
    """The verdict on a document that does not meet these parts of the query's constraint."""
    lacking = [f'does not hold "{part}", which is required' for part in violated.required]
    held = [f'holds "{part}", which is excluded' for part in violated.excluded]
    return Verdict(EXCLUDED, trace.FILTER, f"it {' and '.join(lacking + held)}")


def not_indexed(version: int, shard: int, generation: int) -> Verdict:
    """The verdict on a document that is stored and that its shard does not have."""
    message = (
        f"version {version} of it is stored, but generation {generation} of shard {shard}, which "
        "was searched, does not have it yet; pass the position of its write as min_position to "
        "wait for it"
    )
    return Verdict(NOT_INDEXED, trace.WAIT, message)


def shard_missing(stage: str, detail: str) -> Verdict:
    """The verdict on a document whose shard did not answer at `stage`."""
    return Verdict(SHARD_MISSING, stage, f"its shard fell silent: {detail}; try again shortly")


def _left_out(candidates: Candidates, shard: int) -> Verdict:
    shortfalls = [each for each in candidates.degraded if shard in each.shards]
    stages = [each.stage for each in shortfalls if each.stage in (trace.FETCH, trace.GROUP)]
    detail = f"a leg found it, but then nothing more was heard of shard {shard}"
    return shard_missing(stages[0] if stages else trace.FETCH, detail)


def _candidate(document_id: str, query: Query, candidates: Candidates) -> Verdict:
    ranking = candidates.ranking()
    fused = sorted(ranking, key=lambda ranked: ranked.fused.rank)
    now = standing(document_id, ranking, candidates.memberships, query)
    before = standing(document_id, fused, candidates.memberships, query)
    ranked = ranking[now.rank - 1]
    if now.on_page:
        return Verdict(RETURNED, "", _way(ranked, now.rank))
    if now.group and now.group <= query.page_size:
        message = (
            f"{_way(ranked, now.rank)}; its group is number {now.group}, of which "
            f"{query.group_size} may be shown, and it is number {now.place} there; ask for a "
            f"group_size of {now.place} or more"
        )
        return Verdict(GROUPED_AWAY, trace.GROUP, message)
    end = _end_of_page(now, ranking, query)
    if before.on_page:
        message = (
            f"{_way(ranked, now.rank)}; {end}; fusion alone would have shown it: reranking has "
            f"weight {query.rerank.weight:g}"
        )
        return Verdict(RERANKED_AWAY, trace.RERANK, message)
    page = ((now.group or now.rank) - 1) // query.page_size + 1
    return Verdict(BELOW_PAGE, trace.FUSE, f"{_way(ranked, now.rank)}; {end}; it is on page {page}")


def _way(ranked: Blended, rank: int) -> str:
    """How a candidate came to its final rank."""
    fused = ranked.fused
    way = f"fusion put it at rank {fused.rank} with {fused.score:.4g}"
    if ranked.logit is None:
        return f"{way}, the cross-encoder did not read it, it ended at rank {rank}"
    return (
        f"{way}, the cross-encoder gave it {ranked.logit:+.2f}, it ended at rank {rank} with "
        f"{ranked.fused_part:.4g} + {ranked.rerank_part:.4g} = {ranked.score:.4g}"
    )


def _end_of_page(now: Standing, ranking: Sequence[Blended], query: Query) -> str:
    if now.group:
        return f"its group is number {now.group}, the first page ends with number {query.page_size}"
    last = ranking[query.page_size - 1]
    return f"the first page ends at rank {query.page_size} with {last.score:.4g}"


def _not_asked(
    silent: LegOutcome, legs: Sequence[LegOutcome], candidates: Candidates, shard: int
) -> Verdict:
    stages = _STAGES_OF[silent.leg]
    shortfalls = [each for each in candidates.degraded if each.stage in stages]
    stage = shortfalls[0].stage if shortfalls else silent.leg
    others = "; ".join(_in_words(leg) for leg in legs if leg.answered)
    if silent.leg in candidates.rankings:
        detail = f"the {silent.leg} leg has no answer of shard {shard}"
        verdict = shard_missing(stage, detail)
        return Verdict(verdict.outcome, stage, f"{verdict.message}; {others}".rstrip("; "))
    why = "; ".join(each.message for each in shortfalls)
    return Verdict(
        LEG_MISSING, stage, f"the {silent.leg} leg did not answer: {why}; {others}".rstrip("; ")
    )


def _not_a_candidate(legs: Sequence[LegOutcome]) -> Verdict:
    words = "; ".join(_in_words(leg) for leg in legs)
    found = [leg for leg in legs if leg.rank]
    if not found:
        return Verdict(NOT_A_CANDIDATE, legs[0].leg, words)
    nearest = min(found, key=lambda leg: leg.rank)
    remedy = (
        f"ask for a window of {nearest.rank} or more"
        if nearest.rank <= MAX_WINDOW
        else f"no window reaches that far, the longest is {MAX_WINDOW:,}"
    )
    return Verdict(NOT_A_CANDIDATE, nearest.leg, f"{words}; {remedy}")


def _in_words(leg: LegOutcome) -> str:
    if leg.rank:
        return (
            f"the {leg.leg} leg has it at rank {leg.rank} with {leg.score:.4g}; its window of "
            f"{leg.window} ends at {leg.last_score:.4g}"
        )
    if not leg.depth:
        return f"how far down the {leg.leg} leg has it could not be looked up"
    if leg.depth < DEEPEST:
        return f"the {leg.leg} leg does not have it: {_NOTHING_IN_COMMON[leg.leg]}"
    return f"the {leg.leg} leg does not have it among its first {DEEPEST:,}"
