"""What every hit says of its way to its place adds up, whatever the settings."""

from __future__ import annotations

import pytest

from core.documents import shard_of
from tests.paths.conftest import Family
from tests.paths.test_models_per_collection import made
from trireme.v1 import collection_pb2, ranking_pb2, search_pb2

QUERY = "galley rowed by oarsmen"
METHODS = (
    ranking_pb2.FUSION_METHOD_RRF,
    ranking_pb2.FUSION_METHOD_MIN_MAX,
    ranking_pb2.FUSION_METHOD_Z_SCORE,
    ranking_pb2.FUSION_METHOD_DISTRIBUTION,
)


def places(hit: search_pb2.Hit) -> list[search_pb2.LegRank]:
    why = hit.provenance
    return [
        place
        for place, is_there in (
            (why.dense, why.HasField("dense")),
            (why.lexical, why.HasField("lexical")),
            (why.sparse, why.HasField("sparse")),
        )
        if is_there
    ]


async def test_what_the_legs_and_the_cross_encoder_added_is_the_score(family: Family) -> None:
    encoder = collection_pb2.ModelVersion(model="sparse_encoder")
    async with made(family, sparse_encoder=encoder) as name:
        for method in METHODS:
            for depth in (0, 2):
                reply = await family.search(
                    name,
                    QUERY,
                    fusion=ranking_pb2.Fusion(method=method, lexical_weight=0.5, sparse_weight=2),
                    rerank=ranking_pb2.Rerank(enabled=depth > 0, depth=depth, weight=0.25),
                )

                assert [hit.provenance.HasField("rerank_logit") for hit in reply.hits] == [
                    rank <= depth for rank in range(1, len(reply.hits) + 1)
                ]
                for hit in reply.hits:
                    why = hit.provenance
                    added = sum(place.contribution for place in places(hit))
                    assert why.fused_score == pytest.approx(added, abs=1e-12)
                    assert hit.score == pytest.approx(why.fused_part + why.rerank_part, abs=1e-12)
                    if not why.HasField("rerank_logit"):
                        assert (why.fused_part, why.rerank_part) == (why.fused_score, 0)
                ranks = [hit.provenance.fused_rank for hit in reply.hits]
                assert sorted(ranks) == list(range(1, len(ranks) + 1))
                scores = [hit.score for hit in reply.hits]
                assert scores == sorted(scores, reverse=True)


async def test_a_hit_says_where_it_lies_and_the_answer_by_which_models(
    family: Family, collection: str
) -> None:
    texts = {f"d{n}": "a galley. " * 100 + f"Number {n} was rowed by oarsmen" for n in range(8)}
    position = await family.put(collection, **texts)

    reply = await family.search(collection, QUERY, min_position=position, highlight=True)

    generations = {shard.shard: shard.generation for shard in reply.shards}
    assert len(reply.hits) == len(texts)
    for hit in reply.hits:
        why, text = hit.provenance, hit.document.text.encode()
        assert why.shard == shard_of(hit.document.id, 2)
        assert why.generation == generations[why.shard] > 0
        assert 0 <= hit.passage.start_byte < hit.passage.end_byte <= len(text)
        marked = {text[span.start_byte : span.end_byte].lower() for span in hit.highlights}
        assert marked <= {b"galley", b"rowed", b"by", b"oarsmen"}
        assert marked
    for model in (reply.encoder, reply.reranker):
        assert model.model
        assert model.version == "1"
        assert model.fingerprint
