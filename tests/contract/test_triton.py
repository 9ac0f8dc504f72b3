"""What the roles rely on in Triton, held true for the fake and for the real one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.deadline import Deadline
from core.encoding import CrossEncoder, Encoder
from core.errors import (
    BadModelOutput,
    ModelMismatch,
    NotFound,
    OutOfTime,
    TritonUnavailable,
)
from core.triton import TritonClient
from deploy.local.ports import free_ports
from tests.contract.conftest import Served

# float32 sums over other batch shapes differ in their last bits.
TOLERANCE = 2e-5

TOKEN = np.ones((1, 1), dtype=np.int64)
TEXTS = (
    "the owl hunts at night",
    "an owl at night",
    "interest rates rose in the third quarter",
    "owl",
    "a much longer text about how an owl hunts mice at night in the quiet forest " * 4,
)


def soon() -> Deadline:
    """Longer than any of these tests needs."""
    return Deadline.after(60)


async def test_a_models_properties_come_from_its_configuration(triton: TritonClient) -> None:
    newest = await triton.model_info("bi_encoder", "", soon())
    named = await triton.model_info("bi_encoder", newest.version, soon())

    assert newest == named
    assert newest.kind == "bi_encoder"
    assert newest.similarity == "cosine"
    assert newest.max_length > 2
    assert newest.fingerprint


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("bi_encoder", "999")])
async def test_an_unknown_model_or_version_is_not_found(
    triton: TritonClient, name: str, version: str
) -> None:
    with pytest.raises(NotFound) as asked:
        await triton.model_info(name, version, soon())
    with pytest.raises(NotFound) as run:
        await triton.infer(name, version, [TOKEN], soon(), priority=1)

    assert asked.value.reason == run.value.reason == "MODEL_NOT_FOUND"


async def test_a_text_becomes_a_vector_of_length_one(encoder: Encoder) -> None:
    vectors = await encoder.encode([encoder.tokenizer.encode(TEXTS[0]).ids], soon())

    assert vectors.shape == (1, encoder.info.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-4)


async def test_a_text_has_the_same_vector_in_any_company_and_order(encoder: Encoder) -> None:
    ids = [tokens.ids for tokens in encoder.tokenizer.encode_batch(TEXTS)]

    alone = np.concatenate([await encoder.encode([text], soon()) for text in ids])
    together = await encoder.encode(ids, soon())
    backwards = await encoder.encode(ids[::-1], soon())

    assert np.abs(together - alone).max() < TOLERANCE
    assert np.abs(backwards[::-1] - alone).max() < TOLERANCE


async def test_concurrent_calls_do_not_mix_their_answers(encoder: Encoder) -> None:
    ids = [tokens.ids for tokens in encoder.tokenizer.encode_batch(TEXTS)]
    expected = await encoder.encode(ids, soon())

    answers = await asyncio.gather(*(encoder.encode([text], soon()) for text in ids * 4))

    assert np.abs(np.concatenate(answers) - np.tile(expected, (4, 1))).max() < TOLERANCE


async def test_like_texts_lie_closer_than_unlike_ones(encoder: Encoder) -> None:
    ids = [tokens.ids for tokens in encoder.tokenizer.encode_batch(TEXTS)]

    vectors = await encoder.encode(ids, soon())

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


async def test_a_text_that_is_too_long_is_cut(encoder: Encoder) -> None:
    room = encoder.info.max_length - encoder.tokenizer.single.count
    ids = encoder.tokenizer.encode("owl " * encoder.info.max_length).ids

    whole, cut = await encoder.encode([ids, ids[:room]], soon())

    assert np.abs(whole - cut).max() < TOLERANCE


async def test_a_batch_of_nothing_is_an_empty_matrix(encoder: Encoder) -> None:
    assert (await encoder.encode([], soon())).shape == (0, encoder.info.dimension)


async def test_the_passage_that_answers_scores_higher(cross_encoder: CrossEncoder) -> None:
    query, *passages = (
        tokens.ids
        for tokens in cross_encoder.tokenizer.encode_batch(
            ["owl hunts at night", TEXTS[2], TEXTS[0], TEXTS[4]]
        )
    )

    rates, owl, long_owl = await cross_encoder.score(query, passages, soon())

    assert owl > rates
    assert long_owl > rates


async def test_a_pair_has_the_same_score_in_any_company(cross_encoder: CrossEncoder) -> None:
    query, *passages = (
        tokens.ids for tokens in cross_encoder.tokenizer.encode_batch(["owl", *TEXTS])
    )

    together = await cross_encoder.score(query, passages, soon())
    alone = [(await cross_encoder.score(query, [passage], soon()))[0] for passage in passages]

    # Logits span some 20 units where a vector's components span 2.
    assert np.abs(together - alone).max() < 10 * TOLERANCE


async def test_inputs_that_the_model_refuses_are_a_bad_output(
    triton: TritonClient, encoder: Encoder
) -> None:
    too_many = np.ones((encoder.info.max_batch_size + 1, 1), dtype=np.int64)

    with pytest.raises(BadModelOutput):
        await triton.infer("bi_encoder", "", [TOKEN], soon(), priority=1)
    with pytest.raises(BadModelOutput):
        await triton.infer("bi_encoder", "", [too_many, too_many], soon(), priority=1)


async def test_an_answer_after_the_deadline_is_out_of_time(encoder: Encoder) -> None:
    text = np.full(encoder.info.max_length, 5, dtype=np.int32)

    with pytest.raises(OutOfTime):
        await encoder.encode([text] * 8, Deadline.after(0.0005))
    with pytest.raises(OutOfTime):
        await encoder.encode([text], Deadline.after(0))


async def test_a_cancelled_call_gives_its_permit_back(served: Served) -> None:
    client = TritonClient.create(served.address, max_in_flight=1)
    call = asyncio.create_task(client.infer("bi_encoder", "", [TOKEN] * 2, soon(), priority=1))
    await asyncio.sleep(0)  # lets the call take the only permit
    call.cancel()

    answer = await client.infer("bi_encoder", "", [TOKEN] * 2, soon(), priority=1)

    assert len(answer) == 1
    await client.stop(0)


async def test_a_closed_client_says_that_triton_is_unavailable(served: Served) -> None:
    client = TritonClient.create(served.address)
    await client.stop(0)

    with pytest.raises(TritonUnavailable):
        await client.infer("bi_encoder", "", [TOKEN] * 2, soon(), priority=1)


async def test_where_nothing_listens_triton_is_unavailable() -> None:
    client = TritonClient.create(f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}")

    with pytest.raises(TritonUnavailable):
        await client.model_info("bi_encoder", "", soon())

    await client.stop(0)


async def test_a_model_of_the_wrong_kind_is_refused(served: Served, triton: TritonClient) -> None:
    with pytest.raises(ModelMismatch):
        await Encoder.create(triton, "cross_encoder", "", served.model_directory, soon())


async def test_another_tokenizer_than_the_models_is_refused(
    served: Served, triton: TritonClient, tmp_path: Path
) -> None:
    path = tmp_path / "bi_encoder" / "tokenizer.json"
    path.parent.mkdir()
    shutil.copy(served.model_directory / "bi_encoder" / "tokenizer.json", path)
    path.write_bytes(path.read_bytes() + b"\n")

    with pytest.raises(ModelMismatch):
        await Encoder.create(triton, "bi_encoder", "", tmp_path, soon())
