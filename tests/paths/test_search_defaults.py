"""How a collection says its searches rank, from the change to the reply."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2

from core.rpc import reason_of
from tests.paths.conftest import SECONDS, Family
from tests.paths.test_cli import trireme
from trireme.v1 import collection_pb2, ranking_pb2
from trireme.v1.ranking_pb2 import Fusion, Rerank, SearchDefaults

SHIPS = {
    "galley": "a galley is rowed by many oarsmen",
    "frigate": "a frigate is a warship under sail",
    "raft": "a raft is made of logs",
    "kayak": "a kayak is paddled by one person",
}
METHODS = [
    ranking_pb2.FUSION_METHOD_RRF,
    ranking_pb2.FUSION_METHOD_MIN_MAX,
    ranking_pb2.FUSION_METHOD_Z_SCORE,
    ranking_pb2.FUSION_METHOD_DISTRIBUTION,
]


async def rank_by(
    family: Family, collection: str, defaults: SearchDefaults, *paths: str
) -> collection_pb2.Collection:
    request = collection_pb2.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=collection, search_defaults=defaults),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    reply = await family.collections.UpdateCollection(request, timeout=SECONDS)
    changed: collection_pb2.Collection = reply.collection
    return changed


async def test_whoever_got_the_reply_searches_with_the_new_defaults(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **SHIPS)
    await family.search(collection, "warship", min_position=position)

    for number, method in enumerate([*METHODS, *METHODS], start=1):
        defaults = SearchDefaults(
            fusion=Fusion(method=method, k=number, dense_weight=2),
            rerank=Rerank(depth=number, weight=0.5),
            window=50 + number,
        )
        assert (await rank_by(family, collection, defaults)).search_defaults == defaults
        reply = await family.search(collection, "warship under sail")

        assert reply.fusion == Fusion(
            method=method, k=number, dense_weight=2, lexical_weight=1, sparse_weight=1
        )
        assert reply.rerank == Rerank(enabled=True, depth=min(number, 4), weight=0.5)
        assert (reply.window, not reply.degraded) == (50 + number, True)


async def test_a_request_says_otherwise_for_itself(family: Family, collection: str) -> None:
    position = await family.put(collection, **SHIPS)
    defaults = SearchDefaults(
        fusion=Fusion(method=ranking_pb2.FUSION_METHOD_Z_SCORE, lexical_weight=0.25),
        rerank=Rerank(enabled=False),
    )
    await rank_by(family, collection, defaults)

    reply = await family.search(
        collection,
        "warship under sail",
        min_position=position,
        fusion=Fusion(method=ranking_pb2.FUSION_METHOD_RRF, dense_weight=0),
        rerank=Rerank(enabled=True),
    )

    assert reply.fusion == Fusion(
        method=ranking_pb2.FUSION_METHOD_RRF,
        k=60,
        dense_weight=0,
        lexical_weight=0.25,
        sparse_weight=1,
    )
    assert reply.rerank.enabled
    assert reply.hits[0].provenance.fused_score == pytest.approx(0.25 / (60 + 1))


@pytest.mark.parametrize("method", METHODS)
async def test_parts_add_up_whatever_the_method(
    family: Family, collection: str, method: ranking_pb2.FusionMethod.ValueType
) -> None:
    position = await family.put(collection, **SHIPS)

    reply = await family.search(
        collection,
        "a warship under sail",
        min_position=position,
        fusion=Fusion(method=method, dense_weight=0.5, lexical_weight=2),
        rerank=Rerank(depth=2, weight=0.3),
    )

    assert reply.fusion.method == method
    scores = [hit.score for hit in reply.hits]
    assert len(scores) == len(SHIPS)
    assert scores == sorted(scores, reverse=True)
    for hit in reply.hits:
        why = hit.provenance
        found = [leg for leg in (why.dense, why.lexical) if leg.rank]
        assert why.fused_score == pytest.approx(sum(leg.contribution for leg in found))
        assert hit.score == pytest.approx(why.fused_part + why.rerank_part)
        assert why.HasField("rerank_logit") == (why.fused_rank <= 2)


async def test_defaults_are_there_from_the_first_search_on(family: Family) -> None:
    name = "ranked-from-birth"
    defaults = SearchDefaults(fusion=Fusion(method=ranking_pb2.FUSION_METHOD_DISTRIBUTION))
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=name, search_defaults=defaults)
        ),
        timeout=SECONDS,
    )
    reply = await family.search(name, "anything")
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=name), timeout=SECONDS
    )

    assert reply.fusion.method == ranking_pb2.FUSION_METHOD_DISTRIBUTION


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fusion": Fusion(method=99)}, "UNKNOWN_FUSION"),  # type: ignore[arg-type]
        ({"fusion": Fusion(k=0)}, "OUT_OF_RANGE"),
        ({"group_size": 2}, "MALFORMED"),
        ({"min_coverage": 2}, "OUT_OF_RANGE"),
    ],
)
async def test_what_a_request_cannot_mean_is_refused(
    family: Family, collection: str, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await family.search(collection, "warship", **fields)

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refusal.value) == reason


async def test_the_command_shows_and_changes(
    family: Family, collection: str, tmp_path: Path
) -> None:
    at = ("--address", family.cluster.address)

    async def ranking(*options: str) -> tuple[int, str, str]:
        return await trireme("ranking", collection, *options, *at, journals=tmp_path)

    code, output, errors = await ranking()
    assert (code, errors) == (0, "")
    assert "rrf (not set)" in output

    code, output, _ = await ranking(
        "--fusion", "min-max", "--weight", "dense=0.7", "--weight", "lexical=0", "--no-rerank"
    )
    assert code == 0
    assert "rrf" not in output
    assert "0.7" in output

    code, output, _ = await ranking("--depth", "7", "--rerank-weight", "0.2", "--json")
    assert code == 0
    assert json.loads(output) == {
        "fusion": {"method": "FUSION_METHOD_MIN_MAX", "dense_weight": 0.7, "lexical_weight": 0.0},
        "rerank": {"enabled": False, "depth": 7, "weight": 0.2},
    }
    reply = await family.search(collection, "warship")
    assert reply.fusion.method == ranking_pb2.FUSION_METHOD_MIN_MAX

    code, output, _ = await ranking("--reset", "--k", "20", "--json")
    assert (code, json.loads(output)) == (0, {"fusion": {"k": 20.0}})

    code, _, errors = await ranking("--k", "0")
    assert code == 1
    assert "fusion.k" in errors


async def test_an_indexer_that_dies_on_the_way_forgets_no_defaults(
    family: Family, collection: str
) -> None:
    killed = family.cluster.pids["indexer"]
    changing = asyncio.create_task(rank_by(family, collection, SearchDefaults(window=77)))
    get = collection_pb2.GetCollectionRequest(name=collection)
    window = 0
    while window != 77:
        stored = await family.collections.GetCollection(get, timeout=SECONDS)
        window = stored.collection.search_defaults.window
    family.cluster.kill("indexer")
    await asyncio.gather(changing, return_exceptions=True)

    async with asyncio.timeout(SECONDS):
        while (await family.search(collection, "anything")).window != 77:
            pass
        while not await is_back(family, killed):
            reply = await family.search(collection, "anything")
            assert reply.window == 77


async def is_back(family: Family, killed: int) -> bool:
    """Whether another indexer than the one that was killed answers."""
    request = collection_pb2.ListCollectionsRequest(page_size=1)
    try:
        await family.collections.ListCollections(request, timeout=SECONDS)
    except grpc.aio.AioRpcError:
        return False
    return family.cluster.pids["indexer"] != killed
