"""A newer version of a model is loaded: what was built with the older one keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from core.rpc import open_channel
from tests.fakes.triton import FakeTriton
from tests.paths.conftest import SECONDS, Family, running
from tests.paths.test_cli import trireme
from tests.paths.test_degraded import labels
from trireme.v1 import collection_pb2, inference_pb2, ranking_pb2, search_pb2

HYBRID_ALONE = ranking_pb2.Rerank(enabled=False)
TEXTS = {"owl": "the owl hunts at night", "rates": "interest rates rose in the third quarter"}


@asynccontextmanager
async def remembering(state: Path) -> AsyncIterator[Family]:
    """A family whose gateway remembers embeddings."""
    async with (
        FakeTriton() as triton,
        running(state, triton, cache_megabytes=8) as cluster,
        open_channel(cluster.address) as channel,
    ):
        yield Family(cluster, triton, channel)


@pytest_asyncio.fixture
async def own_family(tmp_path: Path) -> AsyncIterator[Family]:
    """For a test that changes which versions there are."""
    async with remembering(tmp_path / "state") as found:
        yield found


@pytest_asyncio.fixture(scope="module")
async def shared_family(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Family]:
    """For tests that leave the versions alone."""
    async with remembering(tmp_path_factory.mktemp("remembering") / "state") as found:
        yield found


async def make(family: Family, name: str) -> None:
    """A collection that is searchable."""
    await family.collections.CreateCollection(
        collection_pb2.CreateCollectionRequest(collection=collection_pb2.Collection(name=name)),
        timeout=SECONDS,
    )
    position = await family.put(name, **TEXTS)
    await family.search(name, "anything", min_position=position)


async def load_version_2(family: Family, directory: Path) -> None:
    family.triton.versions = ("1", "2")
    at = ("--triton", family.triton.address)
    for model in ("bi_encoder", "cross_encoder"):
        code, output, errors = await trireme("models", "load", model, *at, journals=directory)
        assert (code, errors) == (0, "")
        assert "ready in versions 1, 2" in output


async def newest_encoder(family: Family, text: str) -> str:
    request = inference_pb2.EmbedRequest(texts=[text])
    return str((await family.inference.Embed(request, timeout=SECONDS)).encoder.version)


async def until_newest_is(family: Family, version: str) -> None:
    """Who asks for the newest is told within seconds; the test's own patience is the limit."""
    number = 0
    while await newest_encoder(family, f"text {number}") != version:
        number += 1


async def test_a_collection_keeps_the_version_it_was_built_with(
    own_family: Family, tmp_path: Path
) -> None:
    await make(own_family, "older")
    before = await own_family.search("older", "owl", rerank=HYBRID_ALONE)

    await load_version_2(own_family, tmp_path)
    await until_newest_is(own_family, "2")
    await make(own_family, "newer")
    after = await own_family.search("older", "an owl at night", rerank=HYBRID_ALONE)
    newer = await own_family.search("newer", "an owl at night", rerank=HYBRID_ALONE)

    assert before.encoder.version == after.encoder.version == "1"
    assert newer.encoder.version == "2"
    assert labels(after) == labels(newer) == set()
    assert after.hits[0].document.id == newer.hits[0].document.id == "owl"


async def test_a_version_in_use_is_unloaded_only_by_force(
    own_family: Family, tmp_path: Path
) -> None:
    await make(own_family, "older")
    await load_version_2(own_family, tmp_path)
    at = ("--triton", own_family.triton.address, "--address", own_family.cluster.address)
    version_1 = ("models", "unload", "bi_encoder", "--version", "1", *at)

    code, _, errors = await trireme(*version_1, journals=tmp_path)
    assert code == 1
    assert "bi_encoder:1: is what older was built with" in errors
    assert "[MODEL_IN_USE]" in errors
    assert labels(await own_family.search("older", "owl", rerank=HYBRID_ALONE)) == set()

    code, output, _ = await trireme(
        "models", "unload", "bi_encoder", "--version", "2", *at, journals=tmp_path
    )
    assert code == 0
    assert "bi_encoder:2 unloaded, still ready in version 1" in output

    await trireme("models", "load", "bi_encoder", *at[:2], journals=tmp_path)
    code, output, _ = await trireme(*version_1, "--force", journals=tmp_path)
    assert code == 0
    assert "still ready in version 2" in output
    reply = await own_family.search("older", "the owl hunts", rerank=HYBRID_ALONE)
    assert labels(reply) == {("ENCODE", "MODEL_NOT_FOUND")}
    assert reply.hits[0].document.id == "owl"


async def test_what_triton_serves_is_listed(tmp_path: Path) -> None:
    async with FakeTriton() as triton:
        code, output, _ = await trireme(
            "models", "list", "--triton", triton.address, journals=tmp_path
        )

    assert code == 0
    assert "sparse_encoder" in output
    assert "ready" in output


async def test_without_a_triton_the_repository_is_listed(tmp_path: Path) -> None:
    code, output, _ = await trireme("models", "list", "--state", str(tmp_path), journals=tmp_path)

    assert code == 0
    assert "no Triton answers" in output
    assert "bi_encoder" in output


async def test_a_query_that_was_asked_before_is_not_embedded_again(shared_family: Family) -> None:
    await make(shared_family, "older")
    first = await shared_family.search("older", "owl", rerank=HYBRID_ALONE)
    asked = shared_family.triton.inferences["bi_encoder"]

    second = await shared_family.search("older", "owl", rerank=HYBRID_ALONE)

    assert shared_family.triton.inferences["bi_encoder"] == asked
    assert [hit.document.id for hit in first.hits] == [hit.document.id for hit in second.hits]
    assert triton_microseconds(first) > 0
    assert triton_microseconds(second) == 0


async def test_a_known_query_is_answered_whole_while_triton_is_away(shared_family: Family) -> None:
    await make(shared_family, "known")
    await shared_family.search("known", "owl", rerank=HYBRID_ALONE)

    await shared_family.triton.stop()
    known = await shared_family.search("known", "owl", rerank=HYBRID_ALONE)
    new = await shared_family.search("known", "night", rerank=HYBRID_ALONE)
    await shared_family.triton.start()

    assert labels(known) == set()
    assert labels(new) == {("ENCODE", "TRITON_UNAVAILABLE")}


def triton_microseconds(reply: search_pb2.SearchResponse) -> int:
    (encode,) = (t for t in reply.timings if t.stage == search_pb2.STAGE_ENCODE)
    return encode.inner_microseconds
