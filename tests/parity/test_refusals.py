"""What cannot be served faithfully is refused by name, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import torch
from safetensors.torch import load_file, save_file

from core.errors import BadEnvironment, TriremeError
from deploy.models import tracing
from deploy.models.export import export_directory
from deploy.models.model_files import UnsupportedModel
from deploy.models.modules import Step, read_pooling
from tests.parity.tiny import save_sentence_model, write_transformer


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("saved") / "model", dense=True)


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "saved"))


def edit(path: Path, **values: Any) -> None:
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | values))


def add_module(saved: Path, kind: str) -> None:
    modules = json.loads((saved / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9_Other", "type": kind})
    (saved / "modules.json").write_text(json.dumps(modules))


def rewrite_weights(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def empty(saved: Path) -> None:
    shutil.rmtree(saved)
    saved.mkdir()


def swap_modules(saved: Path) -> None:
    modules = json.loads((saved / "modules.json").read_text())
    modules[1], modules[2] = modules[2], modules[1]
    (saved / "modules.json").write_text(json.dumps(modules))


BREAKAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an empty directory": (
        empty,
        "neither modules.json nor config.json",
    ),
    "no modules.json": (lambda saved: (saved / "modules.json").unlink(), "no modules.json"),
    "no config.json": (lambda saved: (saved / "config.json").unlink(), "config.json"),
    "no modules": (lambda saved: (saved / "modules.json").write_text("[]"), "is empty"),
    "broken json": (lambda saved: (saved / "modules.json").write_text("[{"), "modules.json"),
    "modules without a type": (
        lambda saved: (saved / "modules.json").write_text('[{"path": ""}]'),
        "not what sentence-transformers writes",
    ),
    "a dense module without a width": (
        lambda saved: (saved / "2_Dense" / "config.json").write_text("{}"),
        "in_features",
    ),
    "an unknown module": (
        lambda saved: add_module(saved, "sentence_transformers.models.CNN"),
        "the module CNN",
    ),
    "a module from elsewhere": (
        lambda saved: add_module(saved, "somebody.Pooling"),
        "somebody.Pooling",
    ),
    "a vector module before pooling": (swap_modules, "Dense from sentence_embedding"),
    "another kind of model": (
        lambda saved: edit(
            saved / "config_sentence_transformers.json", model_type="MultiVectorEncoder"
        ),
        "MultiVectorEncoder",
    ),
    "an unknown pooling": (
        lambda saved: edit(saved / "1_Pooling" / "config.json", pooling_mode="median"),
        "the pooling median",
    ),
    "an unknown activation": (
        lambda saved: edit(saved / "2_Dense" / "config.json", activation_function="os.system"),
        "os.system",
    ),
    "an unknown similarity": (
        lambda saved: edit(
            saved / "config_sentence_transformers.json", similarity_fn_name="hamming"
        ),
        "hamming",
    ),
    "lengths by kind of text": (
        lambda saved: edit(saved / "sentence_bert_config.json", query_length=8),
        "query_length",
    ),
    "a hidden layer": (
        lambda saved: edit(
            saved / "sentence_bert_config.json",
            modality_config={
                "text": {"method": "forward", "method_output_name": ["hidden_states", -2]}
            },
        ),
        "modality_config",
    ),
    "another head": (
        lambda saved: edit(saved / "sentence_bert_config.json", transformer_task="fill-mask"),
        "Transformer for fill-mask",
    ),
    "an adapter": (lambda saved: (saved / "adapter_config.json").write_text("{}"), "PEFT"),
    "no weights": (lambda saved: (saved / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda saved: (saved / "tokenizer.json").unlink(), "no tokenizer.json"),
    "a broken tokenizer": (
        lambda saved: (saved / "tokenizer.json").write_text("{}"),
        "is no tokenizer",
    ),
    "a tokenizer with more tokens than the model": (
        lambda saved: edit(saved / "config.json", vocab_size=20),
        "ids below 20",
    ),
    "an unknown architecture": (
        lambda saved: edit(saved / "config.json", model_type="perceiver-of-souls"),
        "perceiver-of-souls",
    ),
    "weights that are not all there": (
        lambda saved: rewrite_weights(
            saved / "model.safetensors",
            lambda weights: weights.pop("encoder.layer.1.output.dense.weight"),
        ),
        "layer.1.output.dense.weight",
    ),
    "weights of another shape": (
        lambda saved: edit(saved / "2_Dense" / "config.json", out_features=7),
        "module Dense do not fit",
    ),
    "weights that are not numbers": (
        lambda saved: rewrite_weights(
            saved / "model.safetensors",
            lambda weights: weights["embeddings.LayerNorm.weight"].fill_(float("nan")),
        ),
        "not finite",
    ),
    "modules that do not fit": (
        lambda saved: edit(saved / "1_Pooling" / "config.json", embedding_dimension=99),
        "Dense takes 32 numbers and gets 99",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_cannot_be_served_is_refused_by_name(
    breakage: str, saved: Path, tmp_path: Path
) -> None:
    spoil, named = BREAKAGES[breakage]
    spoil(saved)

    with pytest.raises(UnsupportedModel, match=named):
        export_directory(tmp_path / "repository", saved, name="mine")

    assert not (tmp_path / "repository").exists()


def test_a_width_that_is_not_the_model_s_is_refused(tmp_path: Path) -> None:
    saved = save_sentence_model(tmp_path / "saved")
    edit(saved / "1_Pooling" / "config.json", embedding_dimension=99)

    with pytest.raises(UnsupportedModel, match="gives 32 numbers, its JSON files say 99"):
        export_directory(tmp_path / "repository", saved, name="mine")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": "../mine"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "mine", "precision": "int4"}, "precision"),
        ({"name": "mine", "version": "newest"}, "version"),
        ({"name": "mine", "version": "0"}, "version"),
    ],
)
def test_arguments_out_of_range_are_refused(
    arguments: dict[str, str], field: str, original: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadEnvironment) as refused:
        export_directory(tmp_path / "repository", original, **arguments)

    assert refused.value.field == field
    assert refused.value.remedy
    assert not (tmp_path / "repository").exists()


def test_a_hub_id_that_cannot_be_fetched_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    with pytest.raises(BadEnvironment, match="Hugging Face hub") as refused:
        export_directory(tmp_path / "repository", "nobody/nothing", name="mine")

    assert refused.value.field == "nobody/nothing"
    assert "directory" in refused.value.remedy


@pytest.mark.parametrize("source", ["./absent", "/absent/model", "absent", "a/b/c"])
def test_a_path_that_is_no_directory_is_not_looked_for_on_the_hub(
    source: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match="is no directory"):
        export_directory(tmp_path / "repository", source, name="mine")


def test_prompts_of_a_cross_encoder_are_refused(tmp_path: Path) -> None:
    saved = write_transformer(
        tmp_path / "saved", "bert", head="ForSequenceClassification", num_labels=1
    )
    about = {"prompts": {"web": "search: "}, "default_prompt_name": "web"}
    (saved / "config_sentence_transformers.json").write_text(json.dumps(about))

    with pytest.raises(TriremeError, match="prompts of a cross-encoder"):
        export_directory(tmp_path / "repository", saved, name="mine")


class Freezing(torch.nn.Module):
    """Divides by a length that a trace takes for a constant."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids * attention_mask).sum(dim=1, keepdim=True) / float(input_ids.shape[1])


def test_a_trace_that_holds_for_one_length_only_is_refused() -> None:
    signature = tracing.Signature(inputs=("ids", "mask"), vocabulary=30, max_length=40)

    with pytest.raises(UnsupportedModel, match="Freezing is off by"):
        tracing.trace(Freezing(), signature, {})


def test_a_model_that_cannot_be_traced_is_refused_by_name() -> None:
    signature = tracing.Signature(inputs=("ids", "mask", "types"), vocabulary=30, max_length=40)

    with pytest.raises(UnsupportedModel, match="cannot trace Freezing"):
        tracing.trace(Freezing(), signature, {})


@pytest.mark.parametrize(
    ("settings", "modes"),
    [
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, ("lasttoken",)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({}, ("mean",)),
    ],
)
def test_old_and_new_pooling_settings_are_read(
    settings: dict[str, Any], modes: tuple[str, ...]
) -> None:
    step = Step("Pooling", Path("1_Pooling"), {"word_embedding_dimension": 8, **settings})

    assert read_pooling(step).modes == modes
