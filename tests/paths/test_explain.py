"""Why a document is, or is not, among the hits: each way of falling out is told with figures."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import grpc
import pytest

from core.documents import shard_of
from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from tests.paths.test_models_per_collection import made
from trireme.v1 import collection_pb2, document_pb2, ranking_pb2, search_pb2

TEXTS = {
    "galley": "a galley is rowed by many oarsmen",
    "frigate": "a frigate is a warship under sail",
    "raft": "a raft is made of logs",
    "kayak": "a kayak is paddled by one person",
    "trireme": "a trireme is rowed by three rows of oarsmen",
    "dhow": "a dhow is a trader under sail",
    "barge": "cargo on rivers",
}
FUSED = ranking_pb2.Rerank(enabled=False)
CROSS_ENCODER_DECIDES = ranking_pb2.Rerank(weight=1.0)


def asked(collection: str, document_id: str, query: str, **fields: Any) -> Any:
    return search_pb2.ExplainHitRequest(
        search=search_pb2.SearchRequest(collection=collection, query=query, **fields),
        document_id=document_id,
    )


async def explain(
    family: Family,
    collection: str,
    document_id: str,
    query: str,
    *,
    seconds: float = SECONDS,
    **fields: Any,
) -> search_pb2.ExplainHitResponse:
    """How a document fares in a search."""
    request = asked(collection, document_id, query, **fields)
    reply: search_pb2.ExplainHitResponse = await family.searches.ExplainHit(
        request, timeout=seconds
    )
    return reply


def ids(reply: search_pb2.SearchResponse) -> list[str]:
    return [hit.document.id for hit in reply.hits]


def outcomes(reply: search_pb2.ExplainHitResponse) -> dict[str, search_pb2.LegOutcome]:
    return {
        search_pb2.SearchLeg.Name(leg.leg).removeprefix("SEARCH_LEG_").lower(): leg
        for leg in reply.legs
    }


async def test_a_hit_is_explained_by_what_the_search_says_of_it(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    query = "rowed by oarsmen"
    search = await family.search(collection, query, highlight=True, min_position=position)

    for rank, hit in enumerate(search.hits, start=1):
        reply = await explain(family, collection, hit.document.id, query, highlight=True)

        assert reply.outcome == search_pb2.HIT_OUTCOME_RETURNED
        assert reply.stage == search_pb2.STAGE_UNSPECIFIED
        assert (reply.rank, reply.hit) == (rank, hit)
        dense = outcomes(reply)["dense"]
        assert (dense.rank, dense.score) == (hit.provenance.dense.rank, hit.provenance.dense.score)
        assert dense.within_window
        assert f"rank {rank}" in reply.message
        assert list(reply.answer.shards) == list(search.shards)
        assert not reply.answer.hits


async def test_outside_of_every_window_the_exact_rank_and_the_score_needed_are_told(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    query = "rowed by oarsmen"
    whole = await family.search(
        collection, query, mode=search_pb2.SEARCH_MODE_DENSE, rerank=FUSED, min_position=position
    )
    last = whole.hits[-1]

    reply = await explain(
        family, collection, last.document.id, query, page_size=2, window=2, rerank=FUSED
    )

    assert reply.outcome == search_pb2.HIT_OUTCOME_NOT_A_CANDIDATE
    assert reply.stage == search_pb2.STAGE_DENSE
    assert reply.rank == 0
    assert reply.hit.document == last.document
    legs = outcomes(reply)
    assert (legs["dense"].rank, legs["dense"].window) == (len(TEXTS), 2)
    assert legs["dense"].score == pytest.approx(last.provenance.dense.score)
    assert legs["dense"].last_score == pytest.approx(whole.hits[1].provenance.dense.score)
    assert not legs["dense"].within_window
    assert legs["dense"].answered
    assert legs["lexical"].rank == 0
    assert f"the dense leg has it at rank {len(TEXTS)}" in reply.message
    assert "none of the query's words" in reply.message
    assert f"ask for a window of {len(TEXTS)} or more" in reply.message


@pytest.mark.parametrize("leg", ["dense", "lexical", "sparse"])
async def test_in_every_leg_the_rank_is_that_of_a_search_by_this_leg_alone(
    family: Family, leg: Literal["dense", "lexical", "sparse"]
) -> None:
    encoder = collection_pb2.ModelVersion(model="sparse_encoder")
    query = "galley rowed by oarsmen"
    async with made(family, sparse_encoder=encoder) as name:
        alone = await family.search(
            name,
            query,
            legs=[search_pb2.SearchLeg.Value(f"SEARCH_LEG_{leg.upper()}")],
            rerank=FUSED,
        )
        last = alone.hits[-1]

        reply = await explain(
            family, name, last.document.id, query, page_size=1, window=1, rerank=FUSED
        )

    place = getattr(last.provenance, leg)
    assert (outcomes(reply)[leg].rank, outcomes(reply)[leg].score) == (place.rank, place.score)
    assert place.rank == len(alone.hits)
    assert list(outcomes(reply)) == ["dense", "lexical", "sparse"]


async def test_with_the_window_that_the_explanation_asks_for_it_is_a_candidate(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    common: dict[str, Any] = {"page_size": 1, "rerank": FUSED}
    await family.search(collection, "sail", min_position=position)
    before = await explain(family, collection, "kayak", "under sail", window=1, **common)
    needed = min(leg.rank for leg in before.legs if leg.rank)

    after = await explain(family, collection, "kayak", "under sail", window=needed, **common)

    assert before.outcome == search_pb2.HIT_OUTCOME_NOT_A_CANDIDATE
    assert after.outcome == search_pb2.HIT_OUTCOME_BELOW_PAGE
    assert after.rank > 0


async def test_a_candidate_below_the_page_is_told_its_rank_and_page(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    query = "a warship under sail"
    whole = await family.search(collection, query, rerank=FUSED, min_position=position)
    fifth = whole.hits[4]

    reply = await explain(family, collection, fifth.document.id, query, page_size=2, rerank=FUSED)

    assert reply.outcome == search_pb2.HIT_OUTCOME_BELOW_PAGE
    assert reply.stage == search_pb2.STAGE_FUSE
    assert (reply.rank, reply.hit.provenance.fused_rank) == (5, 5)
    assert reply.hit.provenance == fifth.provenance
    assert "it is on page 3" in reply.message


async def test_what_the_cross_encoder_moved_off_the_page_is_said_to_be_so(
    family: Family, collection: str
) -> None:
    # The lexical leg prefers the rare word, the fake cross-encoder whoever holds more of them.
    position = await family.put(
        collection, rare="zebra", **{f"d{n}": f"number {n} under sail" for n in range(20)}
    )
    query = "zebra under sail"
    common: dict[str, Any] = {"page_size": 1, "mode": search_pb2.SEARCH_MODE_LEXICAL}
    fused = await family.search(collection, query, rerank=FUSED, min_position=position, **common)
    best = ids(fused)[0]
    reranked = await family.search(collection, query, rerank=CROSS_ENCODER_DECIDES, **common)
    assert best == "rare"
    assert ids(reranked) != [best]

    reply = await explain(family, collection, best, query, rerank=CROSS_ENCODER_DECIDES, **common)

    assert reply.outcome == search_pb2.HIT_OUTCOME_RERANKED_AWAY
    assert reply.stage == search_pb2.STAGE_RERANK
    assert (reply.hit.provenance.fused_rank, reply.rank > 1) == (1, True)
    assert f"{reply.hit.provenance.rerank_logit:+.2f}" in reply.message
    assert "weight 1" in reply.message


async def test_a_document_behind_others_of_its_group_is_grouped_away(
    family: Family, collection: str
) -> None:
    documents = [
        document_pb2.Document(
            id=id,
            text=text,
            attributes={
                "kind": document_pb2.AttributeValue(
                    string_value="oars" if "rowed" in text else "other"
                )
            },
        )
        for id, text in TEXTS.items()
    ]
    written = await family.documents.UpsertDocuments(
        document_pb2.UpsertDocumentsRequest(collection=collection, documents=documents),
        timeout=SECONDS,
    )
    query = "a galley is rowed by many oarsmen"
    grouped: dict[str, Any] = {"group_by": "kind", "rerank": FUSED}
    search = await family.search(
        collection, query, min_position=written.position, group_size=2, **grouped
    )
    oars = next(g for g in search.groups if g.value.string_value == "oars")
    first, second = (hit.document.id for hit in oars.hits)

    reply = await explain(family, collection, second, query, **grouped)

    assert reply.outcome == search_pb2.HIT_OUTCOME_GROUPED_AWAY
    assert reply.stage == search_pb2.STAGE_GROUP
    assert "ask for a group_size of 2 or more" in reply.message
    shown = await explain(family, collection, first, query, **grouped)
    assert shown.outcome == search_pb2.HIT_OUTCOME_RETURNED
    wider = await explain(family, collection, second, query, group_size=2, **grouped)
    assert wider.outcome == search_pb2.HIT_OUTCOME_RETURNED
    page = await explain(family, collection, "barge", query, page_size=1, **grouped)
    assert page.outcome == search_pb2.HIT_OUTCOME_BELOW_PAGE
    assert "its group is number 2" in page.message


async def test_what_is_stored_and_not_yet_indexed_is_told_from_what_is_not_there(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, a="word")
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("queue_full")
    await family.put(collection, late="another word")
    lexical: dict[str, Any] = {"mode": search_pb2.SEARCH_MODE_LEXICAL, "rerank": FUSED}

    reply = await explain(family, collection, "late", "word", **lexical)

    assert reply.outcome == search_pb2.HIT_OUTCOME_NOT_INDEXED
    assert reply.stage == search_pb2.STAGE_WAIT
    assert not reply.HasField("hit")
    assert "version 1 of it is stored" in reply.message
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await explain(family, collection, "nobody", "word", **lexical)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refusal.value) == "DOCUMENT_NOT_FOUND"


async def test_a_leg_that_did_not_answer_is_named(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "sail", min_position=position)
    family.triton.set_fault("queue_full", "bi_encoder")

    reply = await explain(family, collection, "kayak", "under sail", rerank=FUSED)

    assert reply.outcome == search_pb2.HIT_OUTCOME_LEG_MISSING
    assert reply.stage == search_pb2.STAGE_ENCODE
    assert not outcomes(reply)["dense"].answered
    assert outcomes(reply)["lexical"].answered
    assert "the dense leg did not answer" in reply.message
    found = await explain(family, collection, "dhow", "under sail", rerank=FUSED)
    assert found.outcome == search_pb2.HIT_OUTCOME_RETURNED
    family.triton.set_fault("ok")
    healed = await explain(family, collection, "kayak", "under sail", rerank=FUSED)
    assert healed.outcome == search_pb2.HIT_OUTCOME_RETURNED


async def test_a_shard_that_is_gone_is_named(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    await family.search(collection, "sail", min_position=position)
    here = next(id for id in TEXTS if shard_of(id, 2) == 0)
    there = next(id for id in TEXTS if shard_of(id, 2) == 1)

    family.cluster.kill("shard-1")
    async with asyncio.timeout(SECONDS):
        while True:
            reply = await explain(family, collection, there, TEXTS[there], rerank=FUSED)
            if reply.outcome != search_pb2.HIT_OUTCOME_RETURNED:
                break
    other = await explain(family, collection, here, TEXTS[here], rerank=FUSED)

    assert reply.outcome == search_pb2.HIT_OUTCOME_SHARD_MISSING
    assert "shard 1" in reply.message
    assert not reply.HasField("hit")
    assert other.outcome == search_pb2.HIT_OUTCOME_RETURNED
    async with asyncio.timeout(SECONDS):
        while (await family.search(collection, "sail")).degraded:
            pass


@pytest.mark.parametrize(
    ("document_id", "fields", "reason", "field"),
    [
        ("", {}, "FIELD_REQUIRED", "document_id"),
        ("a", {"page_token": "x"}, "MALFORMED", "search.page_token"),
        ("a", {"page_size": -1}, "OUT_OF_RANGE", "search.page_size"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    family: Family,
    collection: str,
    document_id: str,
    fields: dict[str, Any],
    reason: str,
    field: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await explain(family, collection, document_id, "word", **fields)

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refusal.value) == reason
    assert (refusal.value.details() or "").startswith(f"{field}: ")
