"""How texts are cut into requests, and what happens when Triton misbehaves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.batching import (
    INSTANCES,
    REQUEST_TOKENS,
    TOKENS_PER_REQUEST,
    Piece,
    padded_length,
    plan_pieces,
    tokens_per_request,
)
from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder, SparseEncoder, activate
from core.errors import (
    BadEnvironment,
    BadModelOutput,
    ModelMismatch,
    OutOfTime,
    TriremeError,
    TritonUnavailable,
)
from core.triton import BULK_PRIORITY, BULK_REQUESTS, QUERY_PRIORITY, TritonClient
from deploy.local.docstrings import standard_library
from tests.fakes.models import make_tokenizer
from tests.fakes.triton import FakeTriton, Fault

IDS = np.arange(10, 20, dtype=np.int32)
TERMS = " ".join("abcdefghijklmnopqrstuvwxyz0123456789")


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as running:
        yield running


@pytest.fixture
async def client(fake: FakeTriton) -> AsyncIterator[TritonClient]:
    client = TritonClient.create(fake.address)
    yield client
    await client.stop(0)


@pytest.fixture
async def encoder(fake: FakeTriton, client: TritonClient) -> Encoder:
    return await Encoder.create(client, "bi_encoder", "", fake.model_directory, soon())


@given(st.lists(st.integers(1, 300)), st.integers(1, 64), st.integers(1, 4096), st.booleans())
def test_every_row_is_sent_once_within_the_limits(
    lengths: list[int], max_rows: int, max_tokens: int, is_free: bool
) -> None:
    pieces = plan_pieces(
        lengths,
        max_length=300,
        max_rows=max_rows,
        max_tokens=max_tokens,
        padding_is_free=is_free,
    )

    assert sorted(row for piece in pieces for row in piece.rows) == list(range(len(lengths)))
    for piece in pieces:
        assert all(lengths[row] <= piece.length <= 300 for row in piece.rows)
        assert len(piece.rows) <= max_rows
        assert len(piece.rows) == 1 or len(piece.rows) * piece.length <= max_tokens


def test_short_texts_do_not_pay_for_long_ones() -> None:
    pieces = plan_pieces([100, 3, 100, 3], max_length=128, max_rows=2, max_tokens=1000)

    assert [(piece.rows, piece.length) for piece in pieces] == [((0, 2), 112), ((1, 3), 8)]


def test_where_padding_is_free_requests_are_as_few_as_can_be() -> None:
    (piece,) = plan_pieces(
        [100, 3, 100, 3], max_length=128, max_rows=4, max_tokens=448, padding_is_free=True
    )

    assert (piece.rows, piece.length) == ((0, 2, 1, 3), 112)


@pytest.mark.parametrize(
    ("length", "padded"), [(1, 8), (8, 8), (9, 16), (65, 80), (257, 288), (300, 300)]
)
def test_lengths_are_padded_to_few_values(length: int, padded: int) -> None:
    assert padded_length(length, 300) == padded


async def test_a_long_batch_goes_out_in_several_requests(
    fake: FakeTriton, encoder: Encoder
) -> None:
    texts = [IDS[: 1 + number % 10] for number in range(200)]

    vectors = await encoder.encode(texts, soon())

    assert fake.inferences["bi_encoder"] > 1
    assert fake.rows["bi_encoder"] == len(texts)
    for number in (0, 1, 99, 199):
        alone = await encoder.encode([texts[number]], soon())
        assert vectors[number] == pytest.approx(alone[0], abs=1e-6)


async def test_one_failed_request_fails_the_batch(fake: FakeTriton, encoder: Encoder) -> None:
    fake.set_fault("queue_full", times=1)

    with pytest.raises(TritonUnavailable):
        await encoder.encode([IDS] * 300, soon())


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("queue_full", TritonUnavailable),
        ("unhealthy", TritonUnavailable),
        ("wrong_shape", BadModelOutput),
        ("nan", BadModelOutput),
        ("half", BadModelOutput),
    ],
)
async def test_each_fault_has_its_error(
    fake: FakeTriton, encoder: Encoder, fault: Fault, error: type[TriremeError]
) -> None:
    fake.set_fault(fault)

    with pytest.raises(error):
        await encoder.encode([IDS], soon())


async def test_a_hanging_triton_is_out_of_time_at_the_deadline(
    fake: FakeTriton, encoder: Encoder
) -> None:
    fake.set_fault("hang")

    with pytest.raises(OutOfTime):
        await encoder.encode([IDS], Deadline.after(0.05))


async def test_a_slow_triton_is_waited_for(fake: FakeTriton, encoder: Encoder) -> None:
    fake.set_fault("slow")

    assert len(await encoder.encode([IDS], soon())) == 1


async def test_a_model_process_that_died_once_is_asked_again(
    fake: FakeTriton, encoder: Encoder
) -> None:
    fake.set_fault("unhealthy", times=1)

    assert len(await encoder.encode([IDS], soon())) == 1


async def test_a_triton_that_comes_back_is_used_again(fake: FakeTriton, encoder: Encoder) -> None:
    await fake.stop()
    with pytest.raises(TritonUnavailable):
        await encoder.encode([IDS], soon())
    await fake.start()

    vectors = await _until_answered(encoder)

    assert len(vectors) == 1


async def _until_answered(encoder: Encoder) -> np.ndarray:  # type: ignore[type-arg]
    deadline = soon()
    while True:
        try:
            return await encoder.encode([IDS], deadline)
        except TritonUnavailable:
            await asyncio.sleep(0)


async def test_bulk_requests_that_would_never_be_sent_are_refused() -> None:
    with pytest.raises(BadEnvironment, match="triton_bulk_requests: 0 let nothing through"):
        TritonClient.create("127.0.0.1:1", bulk_requests=0)


async def test_a_model_that_hangs_takes_no_turns_from_another(fake: FakeTriton) -> None:
    client = TritonClient.create(fake.address)
    encoder = await Encoder.create(client, "bi_encoder", "", fake.model_directory, soon())
    reranker = await CrossEncoder.create(client, "cross_encoder", "", fake.model_directory, soon())
    fake.set_fault("hang", model="bi_encoder")

    calls = [asyncio.create_task(encoder.encode([IDS], soon())) for _ in range(6)]
    scores = await reranker.score(IDS, [IDS], soon(), priority=BULK_PRIORITY)

    assert len(scores) == 1
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    ("priority", "permitted"), [(QUERY_PRIORITY, 5), (BULK_PRIORITY, BULK_REQUESTS)]
)
async def test_no_more_calls_are_in_flight_than_permitted(
    fake: FakeTriton, priority: int, permitted: int
) -> None:
    client = TritonClient.create(fake.address, max_in_flight=5)
    encoder = await Encoder.create(client, "bi_encoder", "", fake.model_directory, soon())
    fake.set_fault("hang")

    calls = [encoder.encode([IDS], Deadline.after(0.2), priority=priority) for _ in range(7)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(outcome, OutOfTime) for outcome in outcomes)
    assert sum("in flight" in str(outcome) for outcome in outcomes) == 7 - permitted
    await client.stop(0)


async def test_a_pair_is_cut_to_the_models_length(fake: FakeTriton, client: TritonClient) -> None:
    cross = await CrossEncoder.create(client, "cross_encoder", "", fake.model_directory, soon())
    query = np.full(400, 50, dtype=np.int32)
    passage = np.full(4000, 50, dtype=np.int32)

    scores = await cross.score(query, [passage, passage[:3]], soon())

    assert scores.tolist() == [5.0, 5.0]


def waste(lengths: list[int], pieces: list[Piece]) -> float:
    """Tokens sent over tokens wanted."""
    return sum(len(piece.rows) * piece.length for piece in pieces) / sum(lengths)


def test_twenty_passages_are_padded_by_less_than_15_percent() -> None:
    tokenizer = make_tokenizer()
    texts = [f"{each.title} {each.text}" for each in standard_library()[:400]]
    lengths = [min(253, len(each.ids)) + 3 for each in tokenizer.encode_batch(texts)]

    for start in range(0, len(lengths) - 20, 20):
        twenty = lengths[start : start + 20]
        most = tokens_per_request(twenty, TOKENS_PER_REQUEST)
        pieces = plan_pieces(twenty, max_length=512, max_rows=64, max_tokens=most)

        assert waste(twenty, pieces) <= 1.15
        # And still fewer requests than passages by far.
        assert len(pieces) <= 12


@given(st.lists(st.integers(1, 300), min_size=1, max_size=9), st.integers(1, 6))
def test_no_other_split_of_the_sorted_rows_is_cheaper(lengths: list[int], max_rows: int) -> None:
    ordered = sorted(lengths, reverse=True)
    planned = plan_pieces(lengths, max_length=300, max_rows=max_rows, max_tokens=1024)

    def cost(cuts: tuple[int, ...]) -> float:
        bounds = [0, *cuts, len(ordered)]
        total = 0
        for start, end in itertools.pairwise(bounds):
            tokens = padded_length(ordered[start], 300) * (end - start)
            if end - start > max_rows or (tokens > 1024 and end - start > 1):
                return float("inf")
            total += tokens + REQUEST_TOKENS
        return total

    places = range(1, len(ordered))
    cheapest = min(
        cost(cuts)
        for count in range(len(ordered))
        for cuts in itertools.combinations(places, count)
    )
    assert sum(len(p.rows) * p.length + REQUEST_TOKENS for p in planned) == cheapest


def test_a_short_list_is_spread_over_the_instances() -> None:
    lengths = [64] * 8

    pieces = plan_pieces(
        lengths, max_length=256, max_rows=64, max_tokens=tokens_per_request(lengths, 1024)
    )

    assert len(pieces) == INSTANCES


async def test_a_text_becomes_weighted_terms(fake: FakeTriton, client: TritonClient) -> None:
    sparse = await SparseEncoder.create(client, "sparse_encoder", "", fake.model_directory, soon())
    once, twice, many = (sparse.tokenizer.encode(text).ids for text in ("owl", "owl owl", TERMS))

    vectors = await sparse.encode([once, twice, many], soon())

    assert set(vectors[0].ids) == set(once)
    assert (vectors[0].ids == vectors[1].ids).all()
    assert vectors[1].weights == pytest.approx(vectors[0].weights * (np.log1p(2) / np.log1p(1)))
    assert len(vectors[2]) == sparse.info.top_terms
    for vector in vectors:
        assert vector.ids.dtype == np.int32
        assert (vector.weights > 0).all()
        assert (np.diff(vector.weights) <= 0).all()


async def test_a_judge_of_several_labels_gives_them_all(
    fake: FakeTriton, client: TritonClient
) -> None:
    cross = await CrossEncoder.create(client, "cross_nli", "", fake.model_directory, soon())

    logits = await cross.logits(IDS, [IDS, IDS[:2]], soon())

    assert logits.shape == (2, cross.info.dimension)
    with pytest.raises(ModelMismatch, match="none is said to rank"):
        await cross.score(IDS, [IDS], soon())


async def test_a_pair_is_cut_to_the_length_asked_for(
    fake: FakeTriton, client: TritonClient
) -> None:
    cross = await CrossEncoder.create(client, "cross_encoder", "", fake.model_directory, soon())
    query = np.array([50], dtype=np.int32)
    passage = np.array([60] * 20 + [50], dtype=np.int32)

    whole = await cross.score(query, [passage], soon())
    cut = await cross.score(query, [passage], soon(), max_length=16)

    assert (whole[0], cut[0]) == (5.0, -5.0)


def test_logits_become_what_the_library_returns() -> None:
    logits = np.array([[-1000, 0, 1000], [1, 2, 3]], dtype=np.float32)

    sigmoid, softmax = activate(logits, "sigmoid"), activate(logits, "softmax")

    assert sigmoid[0].tolist() == [0, 0.5, 1]
    assert softmax[0].tolist() == [0, 0, 1]
    assert softmax[1] == pytest.approx(np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())
    assert activate(logits, "identity") is logits
