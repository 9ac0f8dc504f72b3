"""How deep the head is judged in the time there is, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pytest

from core.batching import TOKENS_PER_REQUEST
from core.deadline import Deadline
from core.encoding import CrossEncoder
from core.open_models import OpenModels
from core.tokens import Tokenizer
from core.triton import TritonClient
from gateway.fusion import Fused
from gateway.query import Fetched, RerankSettings
from gateway.rerank import Reranked, Reranker
from tests.fakes.triton import FakeTriton

MODEL = "cross_encoder"
QUERY = "which word"
# Each fills a request, so that each is scored on its own.
PASSAGE_TOKENS = TOKENS_PER_REQUEST - 20
DOCUMENTS = 12


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    async with FakeTriton(poison="poison") as running:
        yield running


@pytest.fixture
async def reranker(fake: FakeTriton) -> AsyncIterator[Reranker]:
    client = TritonClient.create(fake.address)
    made = Reranker(OpenModels(CrossEncoder, client, fake.model_directory), MODEL)
    await made.open(Deadline.after(30))
    yield made
    await client.stop(0)


def tokenizer(fake: FakeTriton) -> Tokenizer:
    return Tokenizer.load(fake.model_directory / MODEL / "tokenizer.json", "")


def passages(fake: FakeTriton, *, poisoned: Sequence[int] = ()) -> Mapping[str, Fetched]:
    word = tokenizer(fake).encode("word").ids
    ids = np.resize(word, PASSAGE_TOKENS).tolist()
    poison = tokenizer(fake).encode("poison").ids.tolist()
    return {
        f"d{n}": Fetched(b"", 0, 0, poison + ids if n in poisoned else ids)
        for n in range(DOCUMENTS)
    }


async def judge(
    reranker: Reranker,
    fake: FakeTriton,
    passages: Mapping[str, Fetched],
    *,
    seconds: float = 30.0,
    depth: int = DOCUMENTS,
) -> Reranked:
    ranked = [Fused(id, 0, 1.0, rank, {}) for rank, id in enumerate(passages, start=1)]
    return await reranker.judge(
        QUERY,
        ranked,
        passages,
        RerankSettings(enabled=True, depth=depth, weight=0.3),
        Deadline.after(seconds),
        tokenizer_sha256=tokenizer(fake).sha256,
    )


async def test_with_time_enough_all_that_was_asked_for_is_judged(
    reranker: Reranker, fake: FakeTriton
) -> None:
    whole = await judge(reranker, fake, passages(fake))
    half = await judge(reranker, fake, passages(fake), depth=6)

    assert len(whole.logits) == DOCUMENTS
    assert whole.shortfall is half.shortfall is None
    assert half.logits == whole.logits[:6]
    assert whole.model is not None


async def test_what_was_scored_when_time_ran_out_counts(
    reranker: Reranker, fake: FakeTriton
) -> None:
    whole = await judge(reranker, fake, passages(fake))
    fake.set_fault("slow", MODEL)
    # Three requests at once: twelve take four times as long, three once.
    fake.slow_seconds = 0.5

    cut = await judge(reranker, fake, passages(fake), seconds=4 * fake.slow_seconds)

    assert 1 <= len(cut.logits) < DOCUMENTS
    assert cut.logits == whole.logits[: len(cut.logits)]
    assert cut.shortfall is not None
    assert cut.shortfall.reason == "OUT_OF_TIME"
    assert f"{len(cut.logits)} of {DOCUMENTS}" in cut.shortfall.message


async def test_what_was_scored_before_a_failure_counts(
    reranker: Reranker, fake: FakeTriton
) -> None:
    last = DOCUMENTS - 1

    cut = await judge(reranker, fake, passages(fake, poisoned=[last]))

    assert 1 <= len(cut.logits) <= last
    assert cut.shortfall is not None
    assert cut.shortfall.reason == "BAD_MODEL_OUTPUT"


async def test_without_time_nothing_is_asked_of_triton(
    reranker: Reranker, fake: FakeTriton
) -> None:
    nothing = await judge(reranker, fake, passages(fake), seconds=0.01)

    assert not nothing.logits
    assert nothing.model is None
    assert nothing.shortfall is not None
    assert nothing.shortfall.reason == "OUT_OF_TIME"
    assert fake.inferences[MODEL] == 0


async def test_a_slow_model_is_soon_asked_for_less(reranker: Reranker, fake: FakeTriton) -> None:
    fake.set_fault("slow", MODEL)
    fake.slow_seconds = 0.3
    hopeful = await judge(reranker, fake, passages(fake), seconds=0.6)

    before = fake.inferences[MODEL]
    await judge(reranker, fake, passages(fake), seconds=0.6)

    # At first 0.6 s were thought enough for 0.6 * 4,000 tokens, which are four documents.
    assert len(hopeful.logits) < DOCUMENTS
    assert fake.inferences[MODEL] - before <= 3
