"""What callers get, through gateway, tokenizer, padding and Triton, is what the library gives."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from core.errors import BadEnvironment
from deploy.local.children import Children
from deploy.local.ports import free_ports
from deploy.local.triton import TritonConfig, TritonServer
from deploy.models.export import export_directory
from deploy.models.sentence_model import packaged_minilm
from tests.contract.conftest import Served, missing
from tests.fakes.inference import InferenceAlone, serving
from tests.parity.tiny import HIDDEN, write_transformer
from trireme.v1 import collection_pb2, inference_pb2

os.environ["HF_HUB_OFFLINE"] = "1"

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("quiet_libraries")]

COSINE_FLOOR = 0.99999
SCORE_TOLERANCE = 1e-4
QUERY = inference_pb2.EMBED_KIND_QUERY
LABELS = ["contradiction", "entailment", "neutral"]
TEXTS = [
    "gzip",
    "How do I compress bytes?",
    "the quick brown fox jumps over the lazy dog",
    "Return a new array, sorted by key, in ascending order; ties keep their order. " * 5,
    "naïve café, 42 + 1, 東京",
    "a",
]


def model(name: str) -> collection_pb2.ModelVersion:
    return collection_pb2.ModelVersion(model=name)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tiny random models of the library, saved under their names in `root`."""
    from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    root = tmp_path_factory.mktemp("originals")
    prompted = SentenceTransformer(
        modules=[
            Transformer(str(write_transformer(root / "roberta", "roberta"))),
            Pooling(HIDDEN, "mean", include_prompt=False),
            Normalize(),
        ],
        prompts={"query": "ask: ", "document": "read this: "},
        device="cpu",
    )
    judge = write_transformer(
        root / "judge",
        "bert",
        head="ForSequenceClassification",
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    terms = write_transformer(root / "bert", "bert", head="ForMaskedLM")
    found = {
        "prompted": prompted,
        "judge": CrossEncoder(str(judge), device="cpu"),
        "terms": SparseEncoder(
            modules=[
                Transformer(str(terms), transformer_task="fill-mask"),
                SpladePooling("max"),
            ],
            device="cpu",
        ),
    }
    for name, original in found.items():
        original.save(str(root / "saved" / name), create_model_card=False)
    return {**found, "root": root}


@pytest.fixture(scope="module")
async def tiny(
    originals: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[InferenceAlone]:
    """InferenceService in front of a real Triton with the tiny models."""
    state = tmp_path_factory.mktemp("tiny")
    for name in ("prompted", "judge", "terms"):
        export_directory(state / "models", originals["root"] / "saved" / name, name=name)
    grpc_port, metrics_port = free_ports(2, "127.0.0.1")
    config = TritonConfig(
        state / "models", state / "state", grpc_port, metrics_port, state / "triton.log"
    )
    async with AsyncExitStack() as stack:
        children = await Children.create()
        stack.push_async_callback(children.stop)
        try:
            server = TritonServer.create(config, children)
        except BadEnvironment as error:
            missing(str(error))
        await server.start()
        stack.push_async_callback(server.stop, 10.0)
        yield await stack.enter_async_context(serving(server.address, state / "models"))


def cosines(ours: Any, theirs: Any) -> Any:
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


async def test_the_default_encoder_embeds_as_the_library_does(real_triton: Served) -> None:
    from sentence_transformers import SentenceTransformer

    original = SentenceTransformer(str(packaged_minilm()), device="cpu")
    async with serving(real_triton.address, real_triton.model_directory) as service:
        reply = await service.embed(*TEXTS)

    vectors = [embedding.values for embedding in reply.embeddings]
    assert cosines(vectors, original.encode(TEXTS)).min() >= COSINE_FLOOR


async def test_prompts_are_read_but_not_pooled_as_in_the_library(
    tiny: InferenceAlone, originals: dict[str, Any]
) -> None:
    queries = await tiny.embed(*TEXTS, kind=QUERY, encoder=model("prompted"))
    documents = await tiny.embed(*TEXTS, encoder=model("prompted"))

    for reply, encode in (
        (queries, originals["prompted"].encode_query),
        (documents, originals["prompted"].encode_document),
    ):
        vectors = [embedding.values for embedding in reply.embeddings]
        assert cosines(vectors, encode(TEXTS)).min() >= COSINE_FLOOR


async def test_cut_vectors_are_those_of_the_library(
    tiny: InferenceAlone, originals: dict[str, Any]
) -> None:
    reply = await tiny.embed(*TEXTS, encoder=model("prompted"), dimensions=12)

    expected = originals["prompted"].encode_document(
        TEXTS, truncate_dim=12, normalize_embeddings=True
    )
    assert np.allclose([e.values for e in reply.embeddings], expected, atol=1e-5)


async def test_labels_are_scored_as_the_library_does(
    tiny: InferenceAlone, originals: dict[str, Any]
) -> None:
    query = TEXTS[1]
    expected = originals["judge"].predict(
        [(query, text) for text in TEXTS], apply_softmax=True, convert_to_numpy=True
    )

    reply = await tiny.rerank(
        query,
        *TEXTS,
        reranker=model("judge"),
        label="entailment",
        score_kind=inference_pb2.SCORE_KIND_SOFTMAX,
    )

    for passage in reply.passages:
        assert [each.label for each in passage.labels] == LABELS
        scores = [each.score for each in passage.labels]
        assert scores == pytest.approx(expected[passage.index].tolist(), abs=SCORE_TOLERANCE)
    assert [p.index for p in reply.passages] == np.argsort(-expected[:, 1]).tolist()


async def test_terms_weigh_what_they_do_in_the_library(
    tiny: InferenceAlone, originals: dict[str, Any]
) -> None:
    reply = await tiny.embed_sparse(*TEXTS, encoder=model("terms"), with_tokens=True)

    expected = originals["terms"].encode_document(TEXTS, convert_to_sparse_tensor=False)
    assert reply.vocabulary_size == expected.shape[1]
    for row, embedding in zip(expected.numpy(), reply.embeddings, strict=True):
        dense = np.zeros_like(row)
        dense[list(embedding.term_ids)] = embedding.weights
        assert np.allclose(dense, row, atol=SCORE_TOLERANCE)
        tokenizer = originals["terms"].tokenizer
        assert list(embedding.tokens) == tokenizer.convert_ids_to_tokens(list(embedding.term_ids))
