"""Collections of one cluster, each on its own models: similarities, dimensions, the sparse leg."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from core.rpc import open_channel, reason_of
from tests.fakes import models
from tests.fakes.triton import FakeTriton, Fault
from tests.paths.conftest import SECONDS, Family, running
from tests.paths.test_degraded import labels
from trireme.v1 import collection_pb2, ranking_pb2, search_pb2

HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)
SPARSE = search_pb2.SEARCH_MODE_SPARSE
DENSE = search_pb2.SEARCH_MODE_DENSE
# Of different lengths, so that the similarities disagree.
TEXTS = {
    "oars": "rowed by oarsmen",
    "many": "oarsmen oarsmen oarsmen rowed rowed rowed galley galley",
    "sail": "a frigate under sail",
    "both": "rowed or under sail",
    "none": "an essay about cheese",
}
QUERY = "galley rowed by oarsmen"


def model(name: str, version: str = "") -> collection_pb2.ModelVersion:
    return collection_pb2.ModelVersion(model=name, version=version)


@asynccontextmanager
async def made(family: Family, **fields: object) -> AsyncIterator[str]:
    """A collection with these models and the texts above, all indexed."""
    name = f"m-{uuid.uuid4().hex[:12]}"
    wanted = collection_pb2.Collection(name=name, **fields)  # type: ignore[arg-type]
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=wanted), timeout=SECONDS
    )
    try:
        position = await family.put(name, **TEXTS)
        await family.search(name, "anything", min_position=position)
        yield name
    finally:
        family.triton.set_fault("ok")
        await family.collections.DeleteCollection(
            collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
        )


def tokens_of(text: str) -> NDArray[np.int64]:
    ids = models.make_tokenizer().encode(text, add_special_tokens=False).ids
    return np.array([ids], np.int64)


def embedded(text: str, *, normalize: bool, version: str = "1") -> NDArray[np.float64]:
    ids = tokens_of(text)
    (found,) = models.embed(ids, np.ones_like(ids), version, normalize=normalize)
    return np.asarray(found, np.float64)


def alike(similarity: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The similarity of two vectors by definition, distances negated."""
    if similarity == "euclidean":
        return -float(np.sqrt(((a - b) ** 2).sum()))
    if similarity == "manhattan":
        return -float(np.abs(a - b).sum())
    if similarity == "cosine":
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return float(a @ b)


def weights_of(text: str) -> dict[int, float]:
    ids = tokens_of(text)
    (row,) = models.weigh(ids, np.ones_like(ids), "1")
    terms, weights = row[: models.TOP_TERMS], row[models.TOP_TERMS :]
    return {int(t): float(w) for t, w in zip(terms, weights, strict=True) if w > 0}


def weighed(query: str, text: str) -> float:
    """The inner product of two texts' weights."""
    own = weights_of(text)
    return sum(weight * own.get(term, 0.0) for term, weight in weights_of(query).items())


def ranking(scores: dict[str, float]) -> list[tuple[str, float]]:
    """Best first, without what scores nothing at all."""
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def check(reply: search_pb2.SearchResponse, leg: str, wanted: list[tuple[str, float]]) -> None:
    """One leg's answer is complete and has these documents and scores, in this order."""
    assert not reply.degraded
    assert [hit.document.id for hit in reply.hits] == [name for name, _ in wanted]
    scores = [getattr(hit.provenance, leg).score for hit in reply.hits]
    expected = [score for _, score in wanted]
    # Six digits, of the largest.
    tolerance = 1e-5 * max(1.0, *(abs(score) for score in expected))
    assert scores == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("dimensions", [0, 16])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
async def test_the_dense_leg_compares_as_the_model_was_trained(
    family: Family, similarity: str, dimensions: int
) -> None:
    normalize = similarity == "cosine"
    encoder = model("bi_encoder" if normalize else f"bi_{similarity}")

    def vector(text: str) -> NDArray[np.float64]:
        return embedded(text, normalize=normalize)[: dimensions or models.DIMENSION]

    async with made(family, encoder=encoder, dimensions=dimensions) as name:
        reply = await family.search(name, QUERY, mode=DENSE, rerank=HYBRID_ALONE)

    query = vector(QUERY)
    wanted = {id: alike(similarity, vector(text), query) for id, text in TEXTS.items()}
    check(reply, "dense", ranking(wanted))
    assert reply.encoder.model == encoder.model


async def test_the_sparse_leg_ranks_by_the_inner_product_of_weights(family: Family) -> None:
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        reply = await family.search(name, QUERY, mode=SPARSE, rerank=HYBRID_ALONE)

    scores = {id: weighed(QUERY, text) for id, text in TEXTS.items()}
    check(reply, "sparse", ranking({id: score for id, score in scores.items() if score > 0}))
    assert (reply.sparse_encoder.model, reply.sparse_encoder.version) == ("sparse_encoder", "1")
    assert reply.sparse_encoder.fingerprint
    assert not reply.HasField("encoder")


async def test_hybrid_fuses_every_leg_that_the_collection_has(family: Family) -> None:
    settings = ranking_pb2.Fusion(k=10, dense_weight=1, lexical_weight=2, sparse_weight=4)
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        reply = await family.search(name, QUERY, fusion=settings, rerank=HYBRID_ALONE)

    assert not reply.degraded
    assert reply.fusion.sparse_weight == 4
    best = next(hit for hit in reply.hits if hit.document.id == "oars").provenance
    legs = {"dense": best.dense, "lexical": best.lexical, "sparse": best.sparse}
    contributions = {leg: place.contribution for leg, place in legs.items()}
    assert contributions == {
        "dense": pytest.approx(1 / (10 + best.dense.rank)),
        "lexical": pytest.approx(2 / (10 + best.lexical.rank)),
        "sparse": pytest.approx(4 / (10 + best.sparse.rank)),
    }
    assert best.fused_score == pytest.approx(sum(contributions.values()))
    stages = {search_pb2.Stage.Name(timing.stage) for timing in reply.timings}
    assert {"STAGE_ENCODE_SPARSE", "STAGE_SPARSE", "STAGE_ENCODE", "STAGE_LEXICAL"} <= stages


async def test_legs_may_be_chosen_one_by_one(family: Family) -> None:
    legs = [search_pb2.SEARCH_LEG_SPARSE, search_pb2.SEARCH_LEG_LEXICAL]
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        reply = await family.search(name, QUERY, legs=legs, rerank=HYBRID_ALONE)

    assert reply.hits
    assert not any(hit.provenance.HasField("dense") for hit in reply.hits)
    assert reply.hits[0].provenance.HasField("sparse")
    assert reply.hits[0].provenance.HasField("lexical")


async def test_a_sparse_hit_shows_the_passage_that_its_terms_chose(family: Family) -> None:
    filler = "an essay about cheese and milk " * 60
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        position = await family.put(name, long=f"{filler}quinquereme {filler}")
        reply = await family.search(
            name, "quinquereme", mode=SPARSE, min_position=position, page_size=1
        )

    (hit,) = reply.hits
    shown = hit.document.text.encode()[hit.passage.start_byte : hit.passage.end_byte].decode()
    assert hit.document.id == "long"
    assert hit.passage.start_byte > 0
    assert "quinquereme" in shown
    assert hit.provenance.rerank_logit == pytest.approx(5), "the cross-encoder read it too"


async def test_a_leg_that_a_collection_lacks_is_refused(family: Family) -> None:
    async with made(family) as name:
        for wish in ({"mode": SPARSE}, {"legs": [search_pb2.SEARCH_LEG_SPARSE]}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await family.search(name, QUERY, **wish)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason_of(caught.value) == "NO_SUCH_LEG"

        reply = await family.search(name, QUERY)

    assert not reply.degraded
    assert not any(hit.provenance.HasField("sparse") for hit in reply.hits)


@pytest.mark.parametrize(
    ("fault", "reason"), [("unhealthy", "TRITON_UNAVAILABLE"), ("nan", "BAD_MODEL_OUTPUT")]
)
async def test_without_the_sparse_encoder_the_other_legs_answer(
    family: Family, fault: Fault, reason: str
) -> None:
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        family.triton.set_fault(fault, "sparse_encoder")
        reply = await family.search(name, QUERY)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await family.search(name, QUERY, mode=SPARSE)
        family.triton.set_fault("ok")
        mended = await family.search(name, QUERY)

    assert labels(reply) == {("ENCODE_SPARSE", reason)}
    assert {hit.document.id for hit in reply.hits} == set(TEXTS)
    assert reply.hits[0].provenance.HasField("dense")
    assert not reply.HasField("sparse_encoder")
    assert reason_of(caught.value) == reason
    assert not mended.degraded


async def test_without_the_dense_encoder_the_sparse_leg_answers(family: Family) -> None:
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        family.triton.set_fault("unhealthy", "bi_encoder")
        reply = await family.search(name, QUERY, rerank=HYBRID_ALONE)

    assert labels(reply) == {("ENCODE", "TRITON_UNAVAILABLE")}
    assert reply.hits[0].provenance.HasField("sparse")
    assert all(shard.complete for shard in reply.shards)


async def test_weights_that_are_no_numbers_never_reach_the_index(family: Family) -> None:
    async with made(family, sparse_encoder=model("sparse_encoder")) as name:
        family.triton.set_fault("nan", "sparse_encoder", times=3)
        position = await family.put(name, late="oarsmen who came late")
        reply = await family.search(
            name, "came late", mode=SPARSE, min_position=position, rerank=HYBRID_ALONE
        )

    scores = {id: weighed("came late", text) for id, text in TEXTS.items()}
    scores["late"] = weighed("came late", "oarsmen who came late")
    check(reply, "sparse", ranking({id: score for id, score in scores.items() if score > 0}))


async def test_versions_live_side_by_side_and_survive_a_restart(tmp_path: Path) -> None:
    async with FakeTriton(versions=("1", "2")) as triton:
        replies: list[list[search_pb2.SearchResponse]] = []
        for _ in range(2):
            async with (
                running(tmp_path / "state", triton) as cluster,
                open_channel(cluster.address) as channel,
            ):
                family = Family(cluster, triton, channel)
                if not replies:
                    await filled(family, "old", "1")
                    await filled(family, "new", "")
                replies.append([await everything(family, name) for name in ("old", "new")])

    (old, new), after = replies
    assert after == [old, new]
    assert (old.encoder.version, new.encoder.version) == ("1", "2")
    for reply, version in ((old, "1"), (new, "2")):
        query = embedded(QUERY, normalize=True, version=version)
        for hit in reply.hits:
            text = embedded(hit.document.text, normalize=True, version=version)
            assert hit.provenance.dense.score == pytest.approx(text @ query, abs=1e-4)


async def filled(family: Family, name: str, version: str) -> None:
    wanted = collection_pb2.Collection(
        name=name,
        encoder=model("bi_encoder", version),
        sparse_encoder=model("sparse_encoder", version),
    )
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=wanted), timeout=SECONDS
    )
    position = await family.put(name, **TEXTS)
    await family.search(name, "anything", min_position=position)


async def everything(family: Family, name: str) -> search_pb2.SearchResponse:
    """What a search answers, without its times and the shards' epochs."""
    reply = await family.search(name, QUERY, rerank=HYBRID_ALONE)
    assert not reply.degraded
    for field in ("timings", "total_microseconds", "shards"):
        reply.ClearField(field)
    return reply


async def test_the_reranker_reads_texts_where_stored_tokens_are_not_its_own(
    family: Family,
) -> None:
    # The encoder's prompt stands before every stored passage: "passage: ".
    async with made(family, encoder=model("bi_prompted")) as name:
        position = await family.put(name, titled="under way")
        reply = await family.search(name, "passage under", min_position=position)

    logits = {hit.document.id: hit.provenance.rerank_logit for hit in reply.hits}
    assert not reply.degraded
    # One word of two is in these texts, none in the others.
    assert logits == {
        id: pytest.approx(10 * (1 / 2 if "under" in text else 0) - 5)
        for id, text in (TEXTS | {"titled": "under way"}).items()
    }
