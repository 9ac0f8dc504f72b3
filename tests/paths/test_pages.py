"""All pages of an answer are one list, whatever is written, moved or broken meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.rpc import open_channel, reason_of
from gateway.config import GatewayConfig
from gateway.server import Gateway
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Client, Family, running
from tests.paths.test_degraded import labels
from tests.paths.walking import hits, pages, walk
from trireme.v1 import collection_pb2, ranking_pb2, search_pb2

TEXTS = {f"d{number:02}": f"word {'again ' * (number % 7)}{number}" for number in range(45)}
HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)
LEXICAL = search_pb2.SEARCH_MODE_LEXICAL


@dataclass(frozen=True)
class Caller(Client):
    """A client of some gateway."""

    channel: grpc.aio.Channel


@asynccontextmanager
async def another_gateway(family: Family, **settings: Any) -> AsyncIterator[Caller]:
    """A further gateway before the family's shards."""
    addresses = family.cluster.addresses
    config = GatewayConfig(
        address="127.0.0.1:0",
        shards=(addresses["shard-0"], addresses["shard-1"]),
        indexer_address=addresses["indexer"],
        triton_address=family.triton.address,
        model_directory=family.triton.model_directory,
        **settings,
    )
    gateway = await Gateway.create(config)
    await gateway.start()
    try:
        async with open_channel(gateway.address) as channel:
            yield Caller(channel)
    finally:
        await gateway.stop(1.0)


async def refusal(client: Client, *args: Any, **fields: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.search(*args, **fields)
    return str(reason_of(refused.value))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rerank": HYBRID_ALONE},
        {"mode": LEXICAL},
        {"rerank": ranking_pb2.Rerank(weight=0.7, depth=25)},
        {"fusion": ranking_pb2.Fusion(method=ranking_pb2.FUSION_METHOD_MIN_MAX)},
    ],
    ids=["defaults", "fused", "lexical", "blended", "min-max"],
)
async def test_pages_together_are_what_one_large_page_holds(
    family: Family, collection: str, fields: dict[str, Any]
) -> None:
    position = await family.put(collection, **TEXTS)
    fields = {**fields, "window": 100, "min_position": position}

    whole = await family.search(collection, "word again", page_size=100, **fields)
    walked = await walk(family, collection, "word again", page_size=7, **fields)

    assert not whole.next_page_token
    assert len(whole.hits) == whole.candidate_count == len(TEXTS)
    assert hits(walked) == list(whole.hits)
    assert [len(page.hits) for page in walked] == [7, 7, 7, 7, 7, 7, 3]
    scores = [hit.score for hit in whole.hits]
    assert scores == sorted(scores, reverse=True)


async def test_each_page_says_what_the_first_said(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)

    first, *others = await walk(
        family, collection, "word", page_size=20, min_position=position, window=100
    )

    assert len(others) == 2
    for page in others:
        for name in ("shards", "fusion", "rerank", "encoder", "reranker", "window", "coverage"):
            assert getattr(page, name) == getattr(first, name), name
        assert page.candidate_count == first.candidate_count == len(TEXTS)
        assert not page.degraded
        stages = {search_pb2.Stage.Name(timing.stage) for timing in page.timings}
        assert stages == {"STAGE_ENCODE", "STAGE_FETCH"}
    assert others[0].page_expire_time == first.page_expire_time
    assert not others[-1].HasField("page_expire_time")


async def test_the_page_size_may_change_on_the_way(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    fields: dict[str, Any] = {"window": 100, "min_position": position}
    whole = await family.search(collection, "word", page_size=100, **fields)

    first = await family.search(collection, "word", page_size=5, **fields)
    token = first.next_page_token
    rest = await family.search(collection, "word", page_size=1000, page_token=token, **fields)

    assert [*first.hits, *rest.hits] == list(whole.hits)
    assert not rest.next_page_token


async def test_what_is_written_meanwhile_changes_no_page(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    fields: dict[str, Any] = {"window": 100, "min_position": position}
    whole = await family.search(collection, "word", page_size=100, **fields)

    walked = []
    async for page in pages(family, collection, "word", page_size=6, **fields):
        walked.append(page)
        number = len(walked)
        await family.delete(collection, *(f"d{6 * number + step:02}" for step in range(3)))
        written = await family.put(
            collection, **{f"d{44 - number}": "changed word", f"n{number}": "word word word"}
        )
        # The next page is asked for when the shards serve this already.
        await family.search(collection, "changed", min_position=written)

    assert hits(walked) == list(whole.hits)


async def test_pages_walked_while_a_writer_never_rests(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)

    async def write() -> None:
        for number in range(100_000):
            chosen = f"d{number % 45:02}"
            if number % 5 == 0:
                await family.delete(collection, chosen)
            await family.put(collection, **{chosen: f"word again {number}"})

    writing = asyncio.create_task(write())
    try:
        for _ in range(5):
            walked = await walk(
                family, collection, "word", page_size=5, window=100, min_position=position
            )
            found = [hit.document.id for hit in hits(walked)]
            assert len(set(found)) == len(found) == walked[0].candidate_count
            assert not any(page.degraded for page in walked)
    finally:
        writing.cancel()


async def test_a_token_for_another_request_is_refused(family: Family, collection: str) -> None:
    position = await family.put(collection, **TEXTS)
    first = await family.search(collection, "word", min_position=position)
    token = first.next_page_token

    changes: list[dict[str, Any]] = [{"window": 99}, {"mode": LEXICAL}, {"group_by": "x"}]
    for change in changes:
        fields = {"min_position": position, "page_token": token, **change}
        assert await refusal(family, collection, "word", **fields) == "BAD_PAGE_TOKEN"
    assert await refusal(family, collection, "other", page_token=token) == "BAD_PAGE_TOKEN"
    assert await refusal(family, collection, "word", page_token="AAAA") == "BAD_PAGE_TOKEN"


async def test_a_gateway_goes_on_with_a_token_of_another_with_its_key(
    family: Family, collection: str, tmp_path: Path
) -> None:
    position = await family.put(collection, **TEXTS)
    (tmp_path / "key").write_bytes(b"sixteen bytes or more")
    key: dict[str, Any] = {"page_token_key_file": tmp_path / "key"}
    async with another_gateway(family, **key) as one, another_gateway(family, **key) as other:
        first = await one.search(collection, "word", min_position=position)
        token = first.next_page_token

        second = await other.search(collection, "word", min_position=position, page_token=token)

        assert not {hit.document.id for hit in first.hits} & {h.document.id for h in second.hits}
        refused = await refusal(family, collection, "word", min_position=position, page_token=token)
        assert refused == "BAD_PAGE_TOKEN"


async def test_a_token_expires(family: Family, collection: str) -> None:
    await family.put(collection, **TEXTS)
    position = await family.put(collection, last="word")
    async with another_gateway(family, page_token_seconds=0.0) as hasty:
        first = await hasty.search(collection, "word", min_position=position)

        refused = await refusal(
            hasty,
            collection,
            "word",
            min_position=position,
            page_token=first.next_page_token,
        )

    assert refused == "PAGE_TOKEN_EXPIRED"


async def test_a_collection_made_anew_does_not_continue_the_old_walk(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    first = await family.search(collection, "word", min_position=position)
    fields: dict[str, Any] = {"min_position": position, "page_token": first.next_page_token}
    await family.collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name=collection), timeout=SECONDS
    )
    gone = await refusal(family, collection, "word", **fields)
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(
            collection=collection_pb2.Collection(name=collection)
        ),
        timeout=SECONDS,
    )
    await family.put(collection, **TEXTS)

    anew = await refusal(family, collection, "word", **fields)

    assert (gone, anew) == ("COLLECTION_NOT_FOUND", "PAGE_TOKEN_EXPIRED")


async def test_without_triton_later_pages_show_first_passages_and_say_so(
    family: Family, collection: str
) -> None:
    long = {id: f"{text} {'and so on ' * 150}" for id, text in TEXTS.items()}
    position = await family.put(collection, **long)
    fields: dict[str, Any] = {"min_position": position, "page_size": 20}
    first = await family.search(collection, "so on", **fields)
    token = first.next_page_token
    well = await family.search(collection, "so on", page_token=token, **fields)
    family.triton.set_fault("queue_full")

    ill = await family.search(collection, "so on", page_token=token, **fields)

    assert labels(ill) == {("ENCODE", "TRITON_UNAVAILABLE")}
    assert [h.document.id for h in ill.hits] == [h.document.id for h in well.hits]
    assert {hit.passage.start_byte for hit in ill.hits} == {0}
    assert {hit.passage.start_byte for hit in well.hits} != {0}


async def test_the_labels_of_the_first_page_stand_on_every_page(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    fields: dict[str, Any] = {"page_size": 20, "rerank": HYBRID_ALONE}
    await family.search(collection, "word", min_position=position)
    family.triton.set_fault("queue_full")
    first = await family.search(collection, "word", **fields)
    family.triton.set_fault("ok")

    later = await family.search(collection, "word", page_token=first.next_page_token, **fields)

    assert labels(first) == labels(later) == {("ENCODE", "TRITON_UNAVAILABLE")}
    assert first.coverage == later.coverage == 1 / 2
    assert not later.HasField("encoder")


async def test_a_page_without_a_shard_says_so_and_can_be_asked_for_again(
    family: Family, collection: str
) -> None:
    position = await family.put(collection, **TEXTS)
    fields: dict[str, Any] = {"page_size": 20, "min_position": position, "rerank": HYBRID_ALONE}
    whole = await family.search(collection, "word", **{**fields, "page_size": 100})
    token = (await family.search(collection, "word", **fields)).next_page_token
    expected = list(whole.hits)[20:40]
    pid = family.cluster.pids["shard-0"]

    os.kill(pid, signal.SIGSTOP)
    try:
        without = await family.search(collection, "word", page_token=token, seconds=1.0, **fields)
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(SECONDS):
        while True:
            again = await family.search(collection, "word", page_token=token, **fields)
            if not again.degraded:
                break

    assert {stage for stage, _ in labels(without)} == {"FETCH"}
    assert [shard for label in without.degraded for shard in label.shards] == [0]
    assert list(without.hits) == [hit for hit in expected if hit.provenance.shard == 1]
    assert without.next_page_token
    assert list(again.hits) == expected


@pytest.mark.parametrize("is_written", [False, True], ids=["unchanged", "written"])
async def test_a_restarted_shard_continues_only_what_it_still_has(
    tmp_path: Path, is_written: bool
) -> None:
    async with (
        FakeTriton() as triton,
        running(tmp_path / "state", triton) as cluster,
        open_channel(cluster.address) as channel,
    ):
        client = Caller(channel)
        await client.collections.CreateCollection(
            collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name="c")),
            timeout=SECONDS,
        )
        position = await client.put("c", **TEXTS)
        whole = await client.search("c", "word", page_size=100, min_position=position)
        first = await client.search("c", "word", min_position=position)
        if is_written:
            written = await client.put("c", **dict.fromkeys(TEXTS, "other"))
            await client.search("c", "other", min_position=written)
        cluster.kill("shard-0")
        cluster.kill("shard-1")
        async with asyncio.timeout(SECONDS):
            while min(cluster.restarts[role] for role in ("shard-0", "shard-1")) < 1:
                await asyncio.sleep(0)
            while not await is_complete(client):
                await asyncio.sleep(0)
        fields: dict[str, Any] = {"min_position": position, "page_token": first.next_page_token}

        if is_written:
            assert await refusal(client, "c", "word", **fields) == "PAGE_TOKEN_EXPIRED"
        else:
            second = await client.search("c", "word", **fields)
            assert list(second.hits) == list(whole.hits)[10:20]


async def is_complete(client: Client) -> bool:
    try:
        return not (await client.search("c", "word")).degraded
    except grpc.aio.AioRpcError:
        return False
