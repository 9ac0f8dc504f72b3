"""InferenceService in front of the fake Triton and of the real one: what callers may rely on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.contract.conftest import Served
from tests.fakes.inference import SECONDS, InferenceAlone, serving
from trireme.v1 import inference_pb2

QUERY = inference_pb2.EMBED_KIND_QUERY
TEXTS = (
    "the owl hunts at night",
    "an owl at night",
    "interest rates rose in the third quarter",
    "a much longer text about how an owl hunts mice at night in the quiet forest " * 4,
)


@pytest.fixture
async def service(served: Served) -> AsyncIterator[InferenceAlone]:
    async with serving(served.address, served.model_directory) as running:
        yield running


def cosine(left: Any, right: Any) -> float:
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


async def test_every_format_points_where_the_float32_vector_does(service: InferenceAlone) -> None:
    exact = (await service.embed(*TEXTS)).embeddings
    halves = await service.embed(*TEXTS, format=inference_pb2.VECTOR_FORMAT_FLOAT16)
    bytes_ = await service.embed(*TEXTS, format=inference_pb2.VECTOR_FORMAT_INT8)
    bits = await service.embed(*TEXTS, format=inference_pb2.VECTOR_FORMAT_BINARY)

    for number, embedding in enumerate(exact):
        vector = np.array(embedding.values)
        assert cosine(vector, np.frombuffer(halves.embeddings[number].data, "<f2")) > 0.999999
        assert cosine(vector, np.frombuffer(bytes_.embeddings[number].data, "i1")) > 0.9995
        signs = np.unpackbits(np.frombuffer(bits.embeddings[number].data, "u1"))
        # A component at 0 may fall on either side when the batch is another one.
        assert (signs == (vector > 0))[np.abs(vector) > 1e-5].all()


async def test_a_stream_gives_the_vectors_of_single_calls(service: InferenceAlone) -> None:
    single = [(await service.embed(text)).embeddings[0] for text in TEXTS]
    batches = [
        inference_pb2.StreamEmbedRequest(request=inference_pb2.EmbedRequest(texts=[text]))
        for text in TEXTS * 3
    ]

    replies = [reply async for reply in service.stub.StreamEmbed(iter(batches), timeout=SECONDS)]

    assert len(replies) == len(batches)
    for reply, expected in zip(replies, single * 3, strict=True):
        (embedding,) = reply.response.embeddings
        assert np.allclose(embedding.values, expected.values, atol=2e-5)
        assert embedding.token_count == expected.token_count


async def test_cut_vectors_are_the_first_components_at_length_one(service: InferenceAlone) -> None:
    (whole,) = (await service.embed(TEXTS[0], kind=QUERY)).embeddings
    (cut,) = (await service.embed(TEXTS[0], kind=QUERY, dimensions=16)).embeddings

    assert np.linalg.norm(cut.values) == pytest.approx(1, abs=1e-5)
    assert cosine(cut.values, whole.values[:16]) == pytest.approx(1, abs=1e-6)


async def test_sigmoid_keeps_the_order_and_is_that_of_the_logits(service: InferenceAlone) -> None:
    raw = (await service.rerank("owl hunts at night", *TEXTS)).passages
    sigmoid = await service.rerank(
        "owl hunts at night", *TEXTS, score_kind=inference_pb2.SCORE_KIND_SIGMOID
    )

    assert [p.index for p in raw] == [p.index for p in sigmoid.passages]
    assert raw[-1].index == 2
    expected = [1 / (1 + math.exp(-passage.score)) for passage in raw]
    assert [p.score for p in sigmoid.passages] == pytest.approx(expected, abs=1e-4)
