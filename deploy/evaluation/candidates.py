"""What every setting of a query begins with: the legs' rankings, and the reranker's logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.evaluation.runs import Searcher
from deploy.evaluation.systems import System, one_leg, parse
from gateway.fusion import Candidate, Ranking
from trireme.v1 import search_pb2

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Candidates:
    """One query's candidates per leg, best first, and logits by document, as far as asked for."""

    legs: Mapping[str, Ranking]
    logits: Mapping[str, float]


def fetch(
    searcher: Searcher, text: str, *, legs: Sequence[str], window: int, depth: int
) -> Candidates | None:
    """Asks each leg alone, then once for all of them alike with the `depth` best reranked,
    unless that is 0.

    Answers that fall short would make settings look worse than they are: such searches are tried
    again, and None is returned if they go on falling short.
    """
    replies = {leg: _complete(searcher, one_leg(leg), text, window) for leg in legs}
    logits = _logits(searcher, text, legs, window, depth) if depth else {}
    found = {
        leg: Ranking.of(_candidate(hit, leg) for hit in reply.hits)
        for leg, reply in replies.items()
        if reply is not None
    }
    if logits is None or len(found) < len(legs):
        return None
    return Candidates(found, logits)


def _logits(
    searcher: Searcher, text: str, legs: Sequence[str], window: int, depth: int
) -> dict[str, float] | None:
    # All is said, for what is left open would be as the collection has it.
    alike = "".join(f":{leg}=1" for leg in legs)
    deep = parse(f"rrf:k=60{alike}:window={window}:depth={depth}:blend=1")
    reply = _complete(searcher, deep, text, depth)
    if reply is None:
        return None
    return {
        hit.document.id: hit.provenance.rerank_logit
        for hit in reply.hits
        if hit.provenance.HasField("rerank_logit")
    }


def _complete(
    searcher: Searcher, system: System, text: str, page_size: int
) -> search_pb2.SearchResponse | None:
    for _ in range(_TRIES):
        reply, _ = searcher.ask(system, text, page_size)
        if not reply.degraded:
            return reply
    return None


def _candidate(hit: search_pb2.Hit, leg: str) -> Candidate:
    place = getattr(hit.provenance, leg)
    return Candidate(hit.document.id, place.score, hit.provenance.shard)
