"""What was embedded lately is not embedded again, and never kept wrongly."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.deadline import Deadline
from core.errors import BadModelOutput, OutOfTime, TritonUnavailable
from core.model_info import ModelInfo
from gateway.embedding_cache import ENTRY_BYTES, EmbeddingCache, Key
from gateway.metrics import GatewayMetrics

DIMENSION = 4
ENTRY = ENTRY_BYTES + 4 * DIMENSION
INFO = ModelInfo(
    name="bi_encoder",
    version="1",
    kind="bi_encoder",
    dimension=DIMENSION,
    max_length=64,
    similarity="cosine",
    fingerprint="abc",
    tokenizer_sha256="",
    query_prompt="query: ",
    document_prompt="passage: ",
    max_batch_size=64,
)


def soon() -> Deadline:
    return Deadline.after(30)


def key(text: str) -> Key:
    return Key.of(INFO, text, query=True)


def vector(number: float) -> NDArray[np.float32]:
    return np.full(DIMENSION, number, dtype=np.float32)


class Model:
    """Counts how often it is asked; answers once it may, with what it is told."""

    def __init__(self, answer: NDArray[np.float32] | Exception) -> None:
        self.answer = answer
        self.asked = 0
        self.started = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> NDArray[np.float32]:
        self.asked += 1
        self.started.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def together(cache: EmbeddingCache, model: Model, callers: int) -> list[Any]:
    """What each of so many callers gets, who all ask before the model answers."""
    model.may_answer.clear()
    calls = [asyncio.create_task(cache.fetch(key("owl"), model, soon())) for _ in range(callers)]
    await model.started.wait()
    await asyncio.sleep(0)  # lets the others begin to wait
    model.may_answer.set()
    return await asyncio.gather(*calls, return_exceptions=True)


def lookups(metrics: GatewayMetrics, outcome: str) -> float:
    name = "trireme_gateway_embedding_cache_lookups_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0


async def test_a_text_is_embedded_once() -> None:
    metrics, model = GatewayMetrics(), Model(vector(1))
    cache = EmbeddingCache(10 * ENTRY, metrics)

    first, origin = await cache.fetch(key("owl"), model, soon())
    second, again = await cache.fetch(key("owl"), model, soon())

    assert (origin, again, model.asked) == ("miss", "hit", 1)
    assert first.tolist() == second.tolist() == [1] * DIMENSION
    assert (lookups(metrics, "miss"), lookups(metrics, "hit")) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        Key.of(INFO, "owls", query=True),
        Key.of(INFO, "owl", query=False),
        Key.of(replace(INFO, version="2"), "owl", query=True),
        Key.of(replace(INFO, fingerprint="abd"), "owl", query=True),
        Key.of(replace(INFO, name="other"), "owl", query=True),
        Key.of(replace(INFO, query_prompt="search: "), "owl", query=True),
    ],
)
async def test_another_text_prompt_model_or_version_is_another_embedding(other: Key) -> None:
    cache = EmbeddingCache(10 * ENTRY, GatewayMetrics())
    await cache.fetch(key("owl"), Model(vector(1)), soon())

    found, origin = await cache.fetch(other, Model(vector(2)), soon())

    assert origin == "miss"
    assert found.tolist() == [2] * DIMENSION


async def test_equal_texts_at_the_same_time_are_embedded_once() -> None:
    cache, model = EmbeddingCache(10 * ENTRY, GatewayMetrics()), Model(vector(1))

    answers = await together(cache, model, 5)

    assert model.asked == 1
    assert sorted(origin for _, origin in answers) == ["miss", *["shared"] * 4]


async def test_the_least_recently_used_leaves_first() -> None:
    metrics = GatewayMetrics()
    cache = EmbeddingCache(2 * ENTRY, metrics)
    cache.put(key("a"), vector(1))
    cache.put(key("b"), vector(2))
    cache.get(key("a"))

    cache.put(key("c"), vector(3))

    assert cache.get(key("b")) is None
    assert cache.get(key("a")) is not None
    assert cache.get(key("c")) is not None
    sample = metrics.registry.get_sample_value
    assert sample("trireme_gateway_embedding_cache_evictions_total") == 1
    assert sample("trireme_gateway_embedding_cache_bytes") == 2 * ENTRY


async def test_a_replaced_vector_takes_no_more_room() -> None:
    cache = EmbeddingCache(2 * ENTRY, GatewayMetrics())
    cache.put(key("a"), vector(1))
    cache.put(key("b"), vector(2))

    cache.put(key("b"), vector(3))

    assert len(cache) == 2


async def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache, model = EmbeddingCache(0, GatewayMetrics()), Model(vector(1))

    await cache.fetch(key("owl"), model, soon())
    await cache.fetch(key("owl"), model, soon())

    assert (model.asked, len(cache)) == (2, 0)


async def test_a_failure_reaches_everybody_who_waits_and_is_not_kept() -> None:
    cache, broken = EmbeddingCache(10 * ENTRY, GatewayMetrics()), Model(TritonUnavailable("away"))

    outcomes = await together(cache, broken, 3)
    _, origin = await cache.fetch(key("owl"), Model(vector(1)), soon())

    assert [type(outcome) for outcome in outcomes] == [TritonUnavailable] * 3
    assert (broken.asked, origin) == (1, "miss")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
async def test_what_is_not_finite_is_refused_and_not_kept(bad: float) -> None:
    cache = EmbeddingCache(10 * ENTRY, GatewayMetrics())

    with pytest.raises(BadModelOutput):
        await cache.fetch(key("owl"), Model(vector(bad)), soon())

    assert cache.get(key("owl")) is None


async def test_if_the_first_caller_goes_away_the_next_one_computes() -> None:
    cache, slow, model = (
        EmbeddingCache(10 * ENTRY, GatewayMetrics()),
        Model(vector(1)),
        Model(vector(2)),
    )
    slow.may_answer.clear()
    first = asyncio.create_task(cache.fetch(key("owl"), slow, soon()))
    await slow.started.wait()
    second = asyncio.create_task(cache.fetch(key("owl"), model, soon()))
    await asyncio.sleep(0)  # lets the second caller begin to wait

    first.cancel()

    assert (await second)[1] == "miss"
    assert (slow.asked, model.asked) == (1, 1)


async def test_a_caller_with_more_time_computes_again_when_the_first_ran_out_of_it() -> None:
    cache, late, model = (
        EmbeddingCache(10 * ENTRY, GatewayMetrics()),
        Model(OutOfTime("too late")),
        Model(vector(1)),
    )
    late.may_answer.clear()
    first = asyncio.create_task(cache.fetch(key("owl"), late, soon()))
    await late.started.wait()
    second = asyncio.create_task(cache.fetch(key("owl"), model, soon()))
    await asyncio.sleep(0)  # lets the second caller begin to wait

    late.may_answer.set()

    with pytest.raises(OutOfTime):
        await first
    assert (await second)[1] == "miss"


async def test_nobody_waits_for_another_caller_past_the_own_deadline() -> None:
    cache, slow = EmbeddingCache(10 * ENTRY, GatewayMetrics()), Model(vector(1))
    slow.may_answer.clear()
    first = asyncio.create_task(cache.fetch(key("owl"), slow, soon()))
    await slow.started.wait()

    with pytest.raises(OutOfTime):
        await cache.fetch(key("owl"), slow, Deadline.after(0.01))

    slow.may_answer.set()
    assert (await first)[1] == "miss"


async def test_a_kept_vector_cannot_be_changed() -> None:
    cache = EmbeddingCache(10 * ENTRY, GatewayMetrics())
    batch = np.stack([vector(1), vector(2)])

    kept, _ = await cache.fetch(key("owl"), Model(batch[0]), soon())
    batch[0] = 9

    assert kept.tolist() == [1] * DIMENSION
    assert kept.base is None
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 3
