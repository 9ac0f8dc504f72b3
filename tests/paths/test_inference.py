"""The models alone: every rpc of InferenceService over real gRPC, on the fake Triton."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from numpy.typing import NDArray

from core.deadline import Deadline
from core.rpc import reason_of
from deploy.local.control import TritonControl
from gateway.admission import Admission
from gateway.inference_service import BATCHES_AT_ONCE
from gateway.waiting_room import MOST_WAITING
from gateway.work import Work
from tests.fakes import models as fake
from tests.fakes.inference import SECONDS, InferenceAlone, serving
from tests.fakes.triton import FakeTriton, Fault
from tests.paths.conftest import Family
from tests.paths.test_refusals import info_of
from trireme.v1 import collection_pb2, inference_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
QUERY = inference_pb2.EMBED_KIND_QUERY
NLI = collection_pb2.ModelVersion(model="cross_nli")
SHIPS = ("ships with sails", "ships with oars", "a tax on salt")

Floats = NDArray[np.float32]


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    async with FakeTriton(versions=("1", "2")) as running:
        yield running


@pytest.fixture
async def service(triton: FakeTriton) -> AsyncIterator[InferenceAlone]:
    async with serving(triton.address, triton.model_directory) as running:
        yield running


@pytest.fixture
async def full(triton: FakeTriton) -> AsyncIterator[InferenceAlone]:
    """A service without a permit to give, and without room to wait for one."""
    async with serving(triton.address, triton.model_directory, permits=1) as running:
        with running.admission.spare(Work()):
            waiting = [asyncio.create_task(_wait(running.admission)) for _ in range(MOST_WAITING)]
            while running.admission.waiting < MOST_WAITING:
                await asyncio.sleep(0)
            yield running
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _wait(admission: Admission) -> None:
    async with admission.admit(Work(), Deadline.after(SECONDS)):
        pass


def model(name: str, version: str = "") -> collection_pb2.ModelVersion:
    return collection_pb2.ModelVersion(model=name, version=version)


def expected_vector(text: str, version: str = "2", *, normalize: bool = True) -> Floats:
    """What the fake model makes of a text, without the service."""
    ids = np.array([fake.make_tokenizer().encode(text).ids], dtype=np.int64)
    row: Floats = fake.embed(ids, np.ones_like(ids), version, normalize=normalize)[0]
    return row


def expected_score(query: str, passage: str) -> float:
    """From -5 (no word of the query is in the passage) to 5 (every word is)."""
    wanted = set(fake.words_of_text(query))
    return 10 * len(wanted & set(fake.words_of_text(passage))) / len(wanted) - 5


# Embed


async def test_a_text_is_embedded_as_the_model_does(service: InferenceAlone) -> None:
    reply = await service.embed(*SHIPS)

    vectors = [embedding.values for embedding in reply.embeddings]
    assert np.allclose(vectors, [expected_vector(text) for text in SHIPS], atol=1e-6)
    assert (reply.dimensions, reply.normalized) == (fake.DIMENSION, True)
    assert reply.similarity == "cosine"
    assert reply.format == inference_pb2.VECTOR_FORMAT_FLOAT32
    assert reply.encoder == collection_pb2.ModelVersion(
        model="bi_encoder", version="2", fingerprint="fake-bi_encoder-2"
    )


async def test_every_format_holds_the_same_vector(service: InferenceAlone) -> None:
    vector = expected_vector(SHIPS[0])
    step = np.abs(vector).max() / 127

    half, byte, bit = [
        (await service.embed(SHIPS[0], format=form)).embeddings[0]
        for form in (
            inference_pb2.VECTOR_FORMAT_FLOAT16,
            inference_pb2.VECTOR_FORMAT_INT8,
            inference_pb2.VECTOR_FORMAT_BINARY,
        )
    ]

    assert not [*half.values, *byte.values, *bit.values]
    assert np.allclose(np.frombuffer(half.data, "<f2"), vector, atol=2**-11)
    assert byte.scale == pytest.approx(step)
    assert np.abs(np.frombuffer(byte.data, "i1") * byte.scale - vector).max() < 0.51 * step
    signs = np.unpackbits(np.frombuffer(bit.data, "u1"))
    assert signs.tolist() == (vector > 0).astype(int).tolist()


async def test_fewer_dimensions_are_the_first_ones_brought_to_length_one(
    service: InferenceAlone,
) -> None:
    (embedding,) = (await service.embed(SHIPS[0], dimensions=5)).embeddings

    cut = expected_vector(SHIPS[0])[:5]
    assert np.allclose(embedding.values, cut / np.linalg.norm(cut), atol=1e-6)


async def test_vectors_that_have_a_length_of_their_own_keep_it(service: InferenceAlone) -> None:
    reply = await service.embed(SHIPS[0], dimensions=5, encoder=model("bi_dot"))

    whole = expected_vector(SHIPS[0], normalize=False)
    assert np.allclose(reply.embeddings[0].values, whole[:5], atol=1e-5)
    assert (reply.normalized, reply.similarity) == (False, "dot")


async def test_binary_vectors_may_be_cut_anywhere(service: InferenceAlone) -> None:
    reply = await service.embed(SHIPS[0], dimensions=11, format=inference_pb2.VECTOR_FORMAT_BINARY)

    bits = expected_vector(SHIPS[0])[:11] > 0
    assert reply.embeddings[0].data == np.packbits(bits).tobytes()
    assert reply.dimensions == 11


async def test_an_older_version_is_used_by_name(service: InferenceAlone) -> None:
    old = await service.embed(SHIPS[0], encoder=model("bi_encoder", "1"))

    assert old.encoder.version == "1"
    assert np.allclose(old.embeddings[0].values, expected_vector(SHIPS[0], "1"), atol=1e-6)


async def test_queries_and_documents_get_their_own_prompt(service: InferenceAlone) -> None:
    prompted = model("bi_prompted")

    query = await service.embed("ships", kind=QUERY, encoder=prompted)
    document = await service.embed("ships", encoder=prompted)

    assert np.allclose(query.embeddings[0].values, expected_vector("query: ships"), atol=1e-6)
    assert np.allclose(document.embeddings[0].values, expected_vector("passage: ships"), atol=1e-6)


async def test_a_long_text_says_that_it_was_cut(service: InferenceAlone) -> None:
    short, long = (await service.embed("a b", "a " * 40, encoder=model("bi_prompted"))).embeddings

    prompt = len(fake.make_tokenizer().encode("passage: ", add_special_tokens=False).ids)
    assert (short.token_count, short.truncated) == (1 + prompt + 2 + 1, False)
    assert (long.token_count, long.truncated) == (32, True)


async def test_a_query_asked_for_again_comes_from_the_cache(
    service: InferenceAlone, triton: FakeTriton
) -> None:
    first = await service.embed("ships", kind=QUERY)
    again = await service.embed("ships", kind=QUERY)
    other_version = await service.embed("ships", kind=QUERY, encoder=model("bi_encoder", "1"))

    assert first == again
    assert first.embeddings[0] != other_version.embeddings[0]
    assert triton.inferences["bi_encoder"] == 2


# EmbedSparse


async def test_a_text_becomes_its_heaviest_terms(service: InferenceAlone) -> None:
    reply = await service.embed_sparse("oars and oars and sails", with_tokens=True)

    (found,) = reply.embeddings
    ids = np.array([fake.make_tokenizer().encode("oars and oars and sails").ids], dtype=np.int64)
    row = fake.weigh(ids, np.ones_like(ids), "2")[0]
    expected = {
        int(term): weight
        for term, weight in zip(row[: fake.TOP_TERMS], row[fake.TOP_TERMS :], strict=True)
        if weight > 0
    }
    assert dict(zip(found.term_ids, found.weights, strict=True)) == pytest.approx(expected)
    assert list(found.weights) == sorted(found.weights, reverse=True)
    assert [fake.VOCABULARY[token] for token in found.tokens] == list(found.term_ids)
    assert (found.token_count, found.truncated) == (ids.size, False)
    assert reply.vocabulary_size == len(fake.VOCABULARY)
    assert reply.encoder.fingerprint == "fake-sparse_encoder-2"


async def test_fewer_terms_are_the_heaviest_of_all(service: InferenceAlone) -> None:
    (all_terms,) = (await service.embed_sparse("oars and sails")).embeddings
    (two,) = (await service.embed_sparse("oars and sails", top_terms=2)).embeddings

    assert list(two.term_ids) == list(all_terms.term_ids)[:2]
    assert not two.tokens


# Rerank


async def test_the_best_passages_come_first(service: InferenceAlone) -> None:
    reply = await service.rerank("oars ships", *SHIPS, top_k=2)

    assert [passage.index for passage in reply.passages] == [1, 0]
    assert [passage.score for passage in reply.passages] == [5, 0]
    assert reply.score_kind == inference_pb2.SCORE_KIND_RAW
    assert reply.reranker.version == "2"
    assert (reply.label, len(reply.passages[0].labels)) == ("", 0)


async def test_sigmoid_scores_are_those_of_the_logits(service: InferenceAlone) -> None:
    reply = await service.rerank("oars ships", *SHIPS, score_kind=inference_pb2.SCORE_KIND_SIGMOID)

    expected = [1 / (1 + math.exp(-logit)) for logit in (5, 0, -5)]
    assert [passage.score for passage in reply.passages] == pytest.approx(expected)


async def test_equal_passages_keep_their_order(service: InferenceAlone) -> None:
    reply = await service.rerank("oars", "sails", "oars", "rope", "oars")

    assert [passage.index for passage in reply.passages] == [1, 3, 0, 2]


async def test_a_model_of_several_labels_ranks_by_the_one_that_is_named(
    service: InferenceAlone,
) -> None:
    reply = await service.rerank(
        "oars ships",
        *SHIPS,
        reranker=NLI,
        label="contradiction",
        score_kind=inference_pb2.SCORE_KIND_MODEL_DEFAULT,
    )

    # Logits of salt, which has no word of the query: contradiction 5, entailment -5, neutral 0.
    total = math.exp(5) + math.exp(-5) + math.exp(0)
    assert [passage.index for passage in reply.passages] == [2, 0, 1]
    assert reply.passages[0].score == pytest.approx(math.exp(5) / total)
    assert {each.label: each.score for each in reply.passages[0].labels} == pytest.approx(
        {
            "contradiction": math.exp(5) / total,
            "entailment": math.exp(-5) / total,
            "neutral": 1 / total,
        }
    )
    assert (reply.label, reply.score_kind) == ("contradiction", inference_pb2.SCORE_KIND_SOFTMAX)


async def test_what_a_cross_encoder_did_not_read_is_said(service: InferenceAlone) -> None:
    # 64 tokens with three special ones leave 61: half of them, 30, for the query.
    reply = await service.rerank("a " * 40, "b " * 31, "b " * 32, reranker=NLI, label="neutral")
    short = await service.rerank("a", "b", reranker=NLI, label="neutral")

    assert (reply.query_token_count, reply.query_truncated) == (30, True)
    passages = sorted(reply.passages, key=lambda passage: passage.index)
    assert [(p.token_count, p.truncated) for p in passages] == [(31, False), (31, True)]
    assert (short.query_truncated, short.passages[0].truncated) == (False, False)


async def test_the_last_token_that_counts_is_read_and_the_next_one_is_not(
    service: InferenceAlone,
) -> None:
    # 64 tokens less three special ones less one of the query leave 60.
    reply = await service.rerank(
        "a", "b " * 59 + "a", "b " * 60 + "a", reranker=NLI, label="entailment"
    )

    found = {p.index: (p.score, p.token_count, p.truncated) for p in reply.passages}
    assert found == {0: (5, 60, False), 1: (-5, 60, True)}


# Refusals

CONTROL = "\x01\x02"


def embed(*texts: str, **fields: Any) -> tuple[str, Any]:
    return "Embed", inference_pb2.EmbedRequest(texts=texts, **fields)


def sparse(*texts: str, **fields: Any) -> tuple[str, Any]:
    return "EmbedSparse", inference_pb2.EmbedSparseRequest(texts=texts, **fields)


def rerank(query: str, *passages: str, **fields: Any) -> tuple[str, Any]:
    return "Rerank", inference_pb2.RerankRequest(query=query, passages=passages, **fields)


REFUSED = [
    (embed(), "FIELD_REQUIRED", "texts"),
    (embed("a", " \n"), "FIELD_REQUIRED", "texts[1]"),
    (embed("a", CONTROL), "FIELD_REQUIRED", "texts[1]"),
    (embed(CONTROL, encoder=model("bi_prompted")), "FIELD_REQUIRED", "texts[0]"),
    (embed(CONTROL, kind=QUERY), "FIELD_REQUIRED", "texts[0]"),
    (embed(*["a"] * 257), "OUT_OF_RANGE", "texts"),
    (embed("a" * (1 << 20), "b"), "TOO_LONG", "texts"),
    (embed("a" * ((1 << 20) + 1)), "TOO_LONG", "texts[0]"),
    (embed("a\x00"), "NOT_UTF8", "texts[0]"),
    (embed("a", kind=9), "OUT_OF_RANGE", "kind"),
    (embed("a", format=9), "OUT_OF_RANGE", "format"),
    (embed("a", dimensions=-1), "OUT_OF_RANGE", "dimensions"),
    (embed("a", dimensions=fake.DIMENSION + 1), "OUT_OF_RANGE", "dimensions"),
    (sparse(), "FIELD_REQUIRED", "texts"),
    (sparse(CONTROL), "FIELD_REQUIRED", "texts[0]"),
    (sparse("a", top_terms=-1), "OUT_OF_RANGE", "top_terms"),
    (sparse("a", top_terms=fake.TOP_TERMS + 1), "OUT_OF_RANGE", "top_terms"),
    (rerank("", "a"), "FIELD_REQUIRED", "query"),
    (rerank(CONTROL, "a"), "FIELD_REQUIRED", "query"),
    (rerank("a" * 4097, "a"), "TOO_LONG", "query"),
    (rerank("a"), "FIELD_REQUIRED", "passages"),
    (rerank("a", "b", CONTROL), "FIELD_REQUIRED", "passages[1]"),
    (rerank("a", "b", top_k=257), "OUT_OF_RANGE", "top_k"),
    (rerank("a", "b", score_kind=9), "OUT_OF_RANGE", "score_kind"),
    (
        rerank("a", "b", score_kind=inference_pb2.SCORE_KIND_SOFTMAX),
        "OUT_OF_RANGE",
        "score_kind",
    ),
    (rerank("a", "b", label="entailment"), "OUT_OF_RANGE", "label"),
    (rerank("a", "b", reranker=NLI), "FIELD_REQUIRED", "label"),
    (rerank("a", "b", reranker=NLI, label="yes"), "OUT_OF_RANGE", "label"),
]


@pytest.mark.parametrize(("call", "reason", "field"), REFUSED)
async def test_bad_input_is_refused_by_field(
    service: InferenceAlone, triton: FakeTriton, call: tuple[str, Any], reason: str, field: str
) -> None:
    method, request = call

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(service.stub, method)(request, timeout=SECONDS)

    assert (refusal.value.code(), reason_of(refusal.value)) == (INVALID, reason)
    assert info_of(refusal.value).metadata["field"] == field
    assert sum(triton.inferences.values()) == 0


@pytest.mark.parametrize("method", ["Embed", "EmbedSparse"])
async def test_text_that_is_not_utf8_is_refused_by_field(
    service: InferenceAlone, method: str
) -> None:
    call: Any = service.channel.unary_unary(f"/trireme.v1.InferenceService/{method}")

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call(b"\x0a\x01a\x0a\x01\xff", timeout=SECONDS)

    assert (refusal.value.code(), reason_of(refusal.value)) == (INVALID, "NOT_UTF8")
    assert info_of(refusal.value).metadata["field"] == "texts[1]"


@pytest.mark.parametrize(
    "call",
    [
        embed("a", encoder=model("nothing")),
        embed("a", encoder=model("bi_encoder", "9")),
        embed("a", encoder=model("bi_encoder", "newest")),
        sparse("a", encoder=model("nothing")),
        rerank("a", "b", reranker=model("nothing")),
    ],
)
async def test_an_unknown_model_or_version_is_not_found(
    service: InferenceAlone, call: tuple[str, Any]
) -> None:
    method, request = call

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(service.stub, method)(request, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(refusal.value) == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    "call",
    [
        embed("a", encoder=model("cross_encoder")),
        embed("a", encoder=model("sparse_encoder")),
        sparse("a", encoder=model("bi_encoder")),
        rerank("a", "b", reranker=model("bi_encoder")),
    ],
)
async def test_a_model_of_another_kind_is_refused(
    service: InferenceAlone, call: tuple[str, Any]
) -> None:
    method, request = call

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(service.stub, method)(request, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refusal.value) == "MODEL_MISMATCH"


@pytest.mark.parametrize("call", [embed("a", "b"), sparse("a"), rerank("a", "b")])
@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("nan", grpc.StatusCode.INTERNAL, "BAD_MODEL_OUTPUT"),
        ("wrong_shape", grpc.StatusCode.INTERNAL, "BAD_MODEL_OUTPUT"),
        ("half", grpc.StatusCode.INTERNAL, "BAD_MODEL_OUTPUT"),
        ("unhealthy", grpc.StatusCode.UNAVAILABLE, "TRITON_UNAVAILABLE"),
    ],
)
async def test_what_a_model_gets_wrong_is_never_answered(
    service: InferenceAlone,
    triton: FakeTriton,
    call: tuple[str, Any],
    fault: Fault,
    code: grpc.StatusCode,
    reason: str,
) -> None:
    method, request = call
    triton.set_fault(fault)

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await getattr(service.stub, method)(request, timeout=SECONDS)

    assert (failure.value.code(), reason_of(failure.value)) == (code, reason)

    triton.set_fault("ok")
    assert await getattr(service.stub, method)(request, timeout=SECONDS)


async def test_a_call_ends_at_its_deadline(service: InferenceAlone, triton: FakeTriton) -> None:
    triton.set_fault("hang")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.stub.Embed(inference_pb2.EmbedRequest(texts=["a"]), timeout=0.2)

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await service.until_permits_are_taken(0)


@pytest.mark.parametrize("call", [embed("a"), sparse("a"), rerank("a", "b")])
async def test_without_a_permit_a_call_is_shed(full: InferenceAlone, call: tuple[str, Any]) -> None:
    method, request = call

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(full.stub, method)(request, timeout=SECONDS)

    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refusal.value) == "OVERLOADED"


async def test_after_a_version_went_away_the_newest_is_asked_for_anew(
    service: InferenceAlone, triton: FakeTriton
) -> None:
    async def version_or_reason(text: str) -> str:
        try:
            return str((await service.embed(text)).encoder.version)
        except grpc.aio.AioRpcError as failure:
            return reason_of(failure)

    assert await version_or_reason("a") == "2"
    control = TritonControl.create(triton.address)
    await control.unload_version("bi_encoder", "2", Deadline.after(SECONDS))
    await control.stop()

    # One call may still ask for what is gone.
    assert await version_or_reason("b") in {"1", "MODEL_NOT_FOUND"}
    assert await version_or_reason("c") == "1"


async def test_everything_can_be_called_by_reflection(service: InferenceAlone) -> None:
    def describe() -> set[str]:
        with grpc.insecure_channel(service.address) as channel:
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            found = pool.FindServiceByName("trireme.v1.InferenceService")
            return {f"{method.name} {method.input_type.full_name}" for method in found.methods}

    methods = await asyncio.to_thread(describe)

    declared = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].methods
    assert methods == {f"{method.name} {method.input_type.full_name}" for method in declared}


# Streams


def batch(batch_id: str, *texts: str, **fields: Any) -> inference_pb2.StreamEmbedRequest:
    return inference_pb2.StreamEmbedRequest(
        batch_id=batch_id, request=inference_pb2.EmbedRequest(texts=texts, **fields)
    )


async def replies_of(method: Callable[..., Any], requests: Iterable[Any]) -> list[Any]:
    return [reply async for reply in method(iter(requests), timeout=SECONDS)]


async def test_a_stream_answers_its_batches_in_order_with_their_ids(
    service: InferenceAlone,
) -> None:
    texts = [f"text number {n} {'word ' * (n % 7)}" for n in range(20)]

    replies = await replies_of(
        service.stub.StreamEmbed, [batch(f"batch-{n}", text) for n, text in enumerate(texts)]
    )

    assert [reply.batch for reply in replies] == list(range(20))
    assert [reply.batch_id for reply in replies] == [f"batch-{n}" for n in range(20)]
    vectors = [reply.response.embeddings[0].values for reply in replies]
    assert np.allclose(vectors, [expected_vector(text) for text in texts], atol=1e-6)
    assert not any(reply.HasField("error") for reply in replies)


async def test_a_bad_batch_is_answered_with_its_error_and_the_stream_goes_on(
    service: InferenceAlone,
) -> None:
    replies = await replies_of(
        service.stub.StreamEmbed,
        [
            batch("good", "a"),
            batch("blank", "a", " "),
            inference_pb2.StreamEmbedRequest(batch_id="nothing"),
            batch("unknown", "a", encoder=model("nothing")),
            batch("i" * 129, "a"),
            batch("good again", "b"),
        ],
    )

    assert [reply.batch for reply in replies] == [0, 1, 2, 3, 4, 5]
    assert [reply.HasField("response") for reply in replies] == [True, *[False] * 4, True]
    assert [(r.error.code, r.error.reason, r.error.field) for r in replies[1:5]] == [
        (INVALID.value[0], "FIELD_REQUIRED", "texts[1]"),
        (INVALID.value[0], "FIELD_REQUIRED", "texts"),
        (grpc.StatusCode.NOT_FOUND.value[0], "MODEL_NOT_FOUND", ""),
        (INVALID.value[0], "TOO_LONG", "batch_id"),
    ]


async def test_an_unreadable_batch_is_answered_in_its_place(service: InferenceAlone) -> None:
    good = batch("good", "a").SerializeToString()
    # A request whose second text is the byte 0xff.
    bad = b"\x12\x06\x0a\x01a\x0a\x01\xff"
    call: Any = service.channel.stream_stream("/trireme.v1.InferenceService/StreamEmbed")

    replies = [
        inference_pb2.StreamEmbedResponse.FromString(reply)
        async for reply in call(iter([good, bad, good]), timeout=SECONDS)
    ]

    assert [reply.HasField("response") for reply in replies] == [True, False, True]
    assert (replies[1].error.reason, replies[1].error.field) == ("NOT_UTF8", "texts[1]")


async def test_a_model_that_fails_once_fails_one_batch(
    service: InferenceAlone, triton: FakeTriton
) -> None:
    triton.set_fault("nan", "bi_encoder", times=1)

    replies = await replies_of(
        service.stub.StreamEmbed, [batch(str(n), f"text {n}") for n in range(4)]
    )

    reasons = [reply.error.reason for reply in replies]
    assert sorted(reasons) == ["", "", "", "BAD_MODEL_OUTPUT"]


async def test_batches_wait_for_permits_and_are_shed_in_the_end(full: InferenceAlone) -> None:
    replies = full.stub.StreamEmbed(iter([batch("a", "a"), batch("b", "b")]), timeout=2)

    errors = [reply.error async for reply in replies]

    assert [error.reason for error in errors] == ["OVERLOADED", "OVERLOADED"]
    assert errors[0].code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_a_stream_goes_on_with_one_permit(triton: FakeTriton) -> None:
    async with serving(triton.address, triton.model_directory, permits=1) as narrow:
        replies = await replies_of(
            narrow.stub.StreamEmbed, [batch(str(n), f"text {n}") for n in range(10)]
        )

    assert [reply.batch_id for reply in replies if reply.HasField("response")] == [
        str(number) for number in range(10)
    ]


async def test_a_stream_of_reranks_and_one_of_terms_work_alike(service: InferenceAlone) -> None:
    ranked = await replies_of(
        service.stub.StreamRerank,
        [
            inference_pb2.StreamRerankRequest(batch_id=query, request=rerank(query, *SHIPS)[1])
            for query in ("oars", "salt", " ")
        ],
    )
    terms = await replies_of(
        service.stub.StreamEmbedSparse,
        [
            inference_pb2.StreamEmbedSparseRequest(batch_id=text, request=sparse(text)[1])
            for text in ("oars", " ")
        ],
    )

    assert [reply.batch_id for reply in ranked] == ["oars", "salt", " "]
    assert [reply.response.passages[0].index for reply in ranked[:2]] == [1, 2]
    assert ranked[2].error.field == "query"
    assert terms[0].response == (await service.embed_sparse("oars"))
    assert terms[1].error.field == "texts[0]"


async def test_a_cancelled_stream_stops_its_work(
    service: InferenceAlone, triton: FakeTriton
) -> None:
    triton.set_fault("hang")
    call = service.stub.StreamEmbed(timeout=SECONDS)
    for number in range(6):
        await call.write(batch(str(number), f"text {number}"))
    await service.until_permits_are_taken(BATCHES_AT_ONCE)

    call.cancel()

    await service.until_permits_are_taken(0)
    triton.set_fault("ok")
    await service.embed("afterwards")
    assert triton.inferences["bi_encoder"] == 1


async def test_a_gateway_serves_calls_and_streams_alike(family: Family) -> None:
    requests = [
        inference_pb2.StreamRerankRequest(batch_id="only", request=rerank("oars", *SHIPS)[1])
    ]

    (streamed,) = await replies_of(family.inference.StreamRerank, requests)
    alone = await family.inference.Rerank(requests[0].request, timeout=SECONDS)
    terms = await family.inference.EmbedSparse(sparse("oars")[1], timeout=SECONDS)

    assert (streamed.batch_id, streamed.response) == ("only", alone)
    assert terms.encoder.model == "sparse_encoder"


async def test_what_streams_and_models_did_is_counted(service: InferenceAlone) -> None:
    await replies_of(service.stub.StreamEmbed, [batch("", "a b"), batch("", " ")])

    def counted(name: str, **labels: str) -> float | None:
        return service.metrics.registry.get_sample_value(name, labels)

    # Two words and two special tokens.
    assert counted("trireme_gateway_inference_tokens_total", model="bi_encoder") == 4
    batches = "trireme_gateway_inference_stream_batches_total"
    assert counted(batches, reason="OK") == 1
    assert counted(batches, reason="FIELD_REQUIRED") == 1
