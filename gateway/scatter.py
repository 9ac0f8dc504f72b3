"""Asks every shard at once. What did not answer is part of the result, never an exception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core.constraint_wire import constraint_from_proto, constraint_to_proto
from core.deadline import Deadline
from core.encoding import SparseVector
from core.ranking_wish import RRF
from gateway.filtering import summed
from gateway.fusion import Fused, Ranking, merge, scores_by_shard
from gateway.gathering import Gathered, gather
from gateway.query import DENSE, LEXICAL, SPARSE, Degradation, Fetched, LegPlan, Query
from gateway.view import Target, View
from trireme.shard.v1 import shard_pb2
from trireme.v1 import filter_pb2

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """What the encoders made of the query; None where none did."""

    vector: Vector | None = None
    terms: SparseVector | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of one query, merged over all shards; `head` holds documents that came with it."""

    ranking: Ranking = field(default_factory=Ranking)
    missing: Sequence[Degradation] = ()
    answered: Mapping[int, shard_pb2.GenerationUsed] = field(default_factory=dict)
    slowest_microseconds: int = 0
    head: Mapping[str, Fetched] = field(default_factory=dict)
    plan: LegPlan | None = None

    def __repr__(self) -> str:
        return f"<Leg {len(self.answered)} answered, {len(self.missing)} missing>"


LikelyHeads = Mapping[int, shard_pb2.LikelyHead]
"""What each shard needs to guess which of its documents will be wanted in full."""


def likely_heads(view: View, query: Query, others: Mapping[str, Leg]) -> LikelyHeads:
    """The hints for every shard, from the legs that are known before the dense one."""
    fusion = query.fusion
    if fusion.method != RRF:
        # Only a guess: the other methods need all of the dense leg's scores.
        fusion = replace(fusion, method=RRF)
    found = scores_by_shard({name: leg.ranking for name, leg in others.items()}, fusion)
    return {
        target.shard: shard_pb2.LikelyHead(
            limit=query.head,
            weight=fusion.dense_weight,
            k=fusion.k,
            with_tokens=query.rerank.enabled,
            ids=(scores := found.get(target.shard, {})),
            scores=scores.values(),
        )
        for target in view.targets
    }


async def ask_lexical(
    view: View, query: Query, statistics: shard_pb2.LexicalStatistics | None, deadline: Deadline
) -> Leg:
    """The lexical leg: the best documents of every shard, scored by `statistics`."""

    def ask(target: Target) -> shard_pb2.SearchLexicalRequest:
        return shard_pb2.SearchLexicalRequest(
            collection=view.collection,
            generation=target.generation,
            query=query.text,
            limit=query.window,
            statistics=statistics,
            filter=query.filter_text,
            constraint=constraint_to_proto(query.constraint),
        )

    gathered = await gather(
        view.targets,
        "lexical",
        lambda target, line: line.search_lexical(ask(target), deadline.remaining()),
    )
    return _leg(LEXICAL, gathered, query.window)


async def ask_sparse(view: View, terms: SparseVector, query: Query, deadline: Deadline) -> Leg:
    """The learned-sparse leg: the best documents of every shard."""
    fingerprint = view.sparse_encoder.fingerprint if view.sparse_encoder is not None else ""

    def ask(target: Target) -> shard_pb2.SearchSparseRequest:
        return shard_pb2.SearchSparseRequest(
            collection=view.collection,
            generation=target.generation,
            terms=terms.ids.tolist(),
            weights=terms.weights.tolist(),
            limit=query.window,
            encoder_fingerprint=fingerprint,
            filter=query.filter_text,
            constraint=constraint_to_proto(query.constraint),
        )

    gathered = await gather(
        view.targets,
        "sparse",
        lambda target, line: line.search_sparse(ask(target), deadline.remaining()),
    )
    return _leg(SPARSE, gathered, query.window)


async def ask_dense(
    view: View, vector: Vector, query: Query, likely: LikelyHeads, deadline: Deadline
) -> Leg:
    """The dense leg: the best documents of every shard. `vector` is float32 [dimension].

    Where `likely` says so, a shard adds the documents that it guesses will be wanted in full.
    """
    packed = vector.astype("<f4", copy=False).tobytes()

    def ask(target: Target) -> shard_pb2.SearchDenseRequest:
        return shard_pb2.SearchDenseRequest(
            collection=view.collection,
            generation=target.generation,
            vector=packed,
            limit=query.window,
            encoder_fingerprint=view.encoder.fingerprint,
            likely_head=likely.get(target.shard),
            filter=query.filter_text,
            constraint=constraint_to_proto(query.constraint),
        )

    gathered = await gather(
        view.targets,
        "dense",
        lambda target, line: line.search_dense(ask(target), deadline.remaining()),
    )
    head = {
        found.id: _fetched(found) for reply in gathered.replies.values() for found in reply.head
    }
    return _leg(DENSE, gathered, query.window, head)


async def fetch(
    view: View,
    ranked: Sequence[Fused],
    tokens_for: int,
    meaning: Meaning,
    deadline: Deadline,
    *,
    highlight: str = "",
    pinned: bool = False,
    judged_by: Query | None = None,
) -> tuple[dict[str, Fetched], Sequence[Degradation]]:
    """Documents and best passages of `ranked`, with token ids down to rank `tokens_for`.

    The words of `highlight` are marked. `pinned`: from the view's generations or not at all. With
    `judged_by` documents say which parts of that query's filter and constraint they do not meet.
    """
    if not ranked:
        return {}, ()
    vector, terms = meaning.vector, meaning.terms
    packed = b"" if vector is None else vector.astype("<f4", copy=False).tobytes()
    by_terms = vector is None and terms is not None
    wanted: dict[int, list[str]] = {}
    with_tokens: dict[int, int] = {}
    for fused in ranked:
        wanted.setdefault(fused.shard, []).append(fused.id)
        with_tokens[fused.shard] = with_tokens.get(fused.shard, 0) + (fused.rank <= tokens_for)

    def ask(target: Target) -> shard_pb2.FetchRequest:
        return shard_pb2.FetchRequest(
            collection=view.collection,
            generation=target.generation,
            ids=wanted[target.shard],
            vector=packed,
            tokens_for=with_tokens[target.shard],
            terms=terms.ids.tolist() if terms is not None and by_terms else (),
            weights=terms.weights.tolist() if terms is not None and by_terms else (),
            highlight=highlight,
            pinned=pinned,
            filter=judged_by.filter_text if judged_by is not None else "",
            constraint=constraint_to_proto(judged_by.constraint) if judged_by is not None else None,
        )

    targets = [target for target in view.targets if target.shard in wanted]
    gathered = await gather(
        targets, "fetch", lambda target, line: line.fetch(ask(target), deadline.remaining())
    )
    fetched = {
        found.id: _fetched(found)
        for reply in gathered.replies.values()
        for found in reply.documents
    }
    return fetched, gathered.missing


def _leg(
    name: str,
    gathered: Gathered[shard_pb2.SearchLexicalResponse]
    | Gathered[shard_pb2.SearchDenseResponse]
    | Gathered[shard_pb2.SearchSparseResponse],
    limit: int,
    head: Mapping[str, Fetched] | None = None,
) -> Leg:
    replies = gathered.replies
    rankings = [
        Ranking(ids := reply.ranking.ids, reply.ranking.scores, [shard] * len(ids))
        for shard, reply in replies.items()
    ]
    ranking = merge(rankings, limit)
    return Leg(
        ranking=ranking,
        missing=gathered.missing,
        answered={shard: reply.generation for shard, reply in replies.items()},
        slowest_microseconds=max((r.search_microseconds for r in replies.values()), default=0),
        head=head or {},
        plan=summed(
            name,
            [_plan(reply.plan) for reply in replies.values() if reply.HasField("plan")],
            found=len(ranking),
            limit=limit,
        ),
    )


def _plan(plan: filter_pb2.LegPlan) -> LegPlan:
    names = map(filter_pb2.FilterStrategy.Name, plan.strategies)
    return LegPlan(
        strategies=[name.removeprefix("FILTER_STRATEGY_") for name in names],
        matching=plan.matching_count,
        documents=plan.document_count,
    )


def _fetched(found: shard_pb2.FetchedDocument) -> Fetched:
    return Fetched(
        found.document,
        found.start_byte,
        found.end_byte,
        found.token_ids,
        found.highlights,
        found.title_highlights,
        found.unmet,
        constraint_from_proto(found.violated) if found.HasField("violated") else None,
    )
