"""Models are opened once, by version, and a newer version is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder
from core.errors import ModelMismatch, NotFound, TritonUnavailable
from core.open_models import OpenModels
from core.triton import TritonClient
from deploy.local.control import TritonControl
from tests.fakes.triton import FakeTriton


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as running:
        yield running


@pytest.fixture
async def encoders(fake: FakeTriton) -> AsyncIterator[OpenModels[Encoder]]:
    client = TritonClient.create(fake.address)
    yield OpenModels(Encoder, client, fake.model_directory)
    await client.stop(0)


async def test_a_model_is_opened_once_however_many_ask(encoders: OpenModels[Encoder]) -> None:
    opened = await asyncio.gather(*(encoders.get("bi_encoder", "1", soon()) for _ in range(9)))

    assert len(set(map(id, opened))) == 1


async def test_the_newest_is_the_named_version_that_is_newest(
    fake: FakeTriton, encoders: OpenModels[Encoder]
) -> None:
    assert await encoders.get("bi_encoder", "", soon()) is await encoders.get(
        "bi_encoder", "1", soon()
    )


async def test_a_newly_loaded_version_is_noticed(
    fake: FakeTriton, encoders: OpenModels[Encoder]
) -> None:
    first = await encoders.get("bi_encoder", "", soon())
    fake.versions = ("1", "2")
    control = TritonControl.create(fake.address)
    await control.load("bi_encoder", soon())

    encoders.forget("bi_encoder", "")
    second = await encoders.get("bi_encoder", "", soon())

    assert (first.info.version, second.info.version) == ("1", "2")
    assert (await encoders.get("bi_encoder", "1", soon())).info.version == "1"
    await control.stop()


async def test_another_fingerprint_is_refused_and_asked_for_again(
    encoders: OpenModels[Encoder],
) -> None:
    known = await encoders.get("bi_encoder", "1", soon())

    with pytest.raises(ModelMismatch, match="serve the version"):
        await encoders.get("bi_encoder", "1", soon(), fingerprint="another")

    assert await encoders.get("bi_encoder", "1", soon()) is not known


async def test_a_model_that_is_open_is_there_while_triton_is_away(
    fake: FakeTriton, encoders: OpenModels[Encoder]
) -> None:
    known = await encoders.get("bi_encoder", "1", soon())
    await fake.stop()

    assert await encoders.get("bi_encoder", "1", soon()) is known
    with pytest.raises(TritonUnavailable):
        await encoders.get("bi_dot", "1", soon())


async def test_an_unknown_model_or_one_of_another_kind_is_refused(
    fake: FakeTriton, encoders: OpenModels[Encoder]
) -> None:
    with pytest.raises(NotFound):
        await encoders.get("nobody", "", soon())
    with pytest.raises(ModelMismatch, match=CrossEncoder.kind):
        await encoders.get("cross_encoder", "", soon())
