"""Versions of one model side by side, and what they may differ in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from core.errors import BadEnvironment, ModelMismatch
from deploy.models.export import export_directory
from deploy.models.repository import list_models
from deploy.models.versions import parse_config
from tests.parity.served import Served
from tests.parity.tiny import save_sentence_model

TEXTS = ["gzip", "How do I compress bytes?"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("saved") / "first")


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_model(tmp_path_factory.mktemp("saved") / "second", seed=18)


def files(repository: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def test_another_model_of_the_same_shape_becomes_the_next_version(
    saved: Path, retrained: Path, tmp_path: Path
) -> None:
    first = export_directory(tmp_path, saved, name="mine")
    before = (tmp_path / "mine" / "1" / "model.pt").read_bytes()
    vectors = Served(tmp_path / "mine").encode(TEXTS)

    second = export_directory(tmp_path, retrained, name="mine")

    assert (first.version, second.version) == ("1", "2")
    assert (tmp_path / "mine" / "1" / "model.pt").read_bytes() == before
    listed = [
        (model.version, model.fingerprint, model.info.model_name) for model in list_models(tmp_path)
    ]
    assert listed == [("1", first.fingerprint, "first"), ("2", second.fingerprint, "second")]
    assert abs(Served(tmp_path / "mine").encode(TEXTS) - vectors).max() > 0.1


def test_the_same_model_again_keeps_its_version_and_writes_nothing(
    saved: Path, retrained: Path, tmp_path: Path
) -> None:
    export_directory(tmp_path, saved, name="mine")
    export_directory(tmp_path, retrained, name="mine")
    before = files(tmp_path)

    again = export_directory(tmp_path, saved, name="mine")

    assert (again.version, again.written) == ("1", False)
    assert files(tmp_path) == before


def test_precisions_are_versions_and_int8_ties_the_model_to_cpus(
    saved: Path, tmp_path: Path
) -> None:
    export_directory(tmp_path, saved, name="mine")
    assert "KIND_AUTO" in (tmp_path / "mine" / "config.pbtxt").read_text()

    export_directory(tmp_path, saved, name="mine", version="7", precision="int8")

    config = parse_config(tmp_path / "mine" / "config.pbtxt")
    assert config.parameters["precision"].string_value == "fp32"
    assert config.parameters["precision@7"].string_value == "int8"
    assert [model.info.precision for model in list_models(tmp_path)] == ["fp32", "int8"]
    assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU
    with pytest.raises(ModelMismatch, match="GPUs"):
        export_directory(tmp_path, saved, name="mine", precision="fp16")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"similarity_fn_name": "dot"}, "similarity"),
        ({"prompts": {"query": "ask: "}}, "query_prompt"),
        ({"max_seq_length": 9}, "max_length"),
        ({"mode": ("cls", "mean")}, "dimension"),
        ({"architecture": "roberta"}, "tokenizer_sha256"),
    ],
)
def test_versions_of_another_shape_are_refused(
    change: dict[str, Any], named: str, saved: Path, tmp_path: Path
) -> None:
    export_directory(tmp_path / "repository", saved, name="mine")
    before = files(tmp_path / "repository")
    other = save_sentence_model(tmp_path / "other", **change)

    with pytest.raises(ModelMismatch, match=named) as refused:
        export_directory(tmp_path / "repository", other, name="mine")

    assert "another name" in refused.value.remedy
    assert files(tmp_path / "repository") == before


def test_a_version_that_is_another_model_is_not_overwritten(
    saved: Path, retrained: Path, tmp_path: Path
) -> None:
    export_directory(tmp_path, saved, name="mine", version="3")
    before = files(tmp_path)

    with pytest.raises(BadEnvironment, match="3 of mine is another model"):
        export_directory(tmp_path, retrained, name="mine", version="3")

    assert files(tmp_path) == before


def test_a_config_without_versions_keys_is_read_as_before(saved: Path, tmp_path: Path) -> None:
    export_directory(tmp_path, saved, name="mine")
    path = tmp_path / "mine" / "config.pbtxt"
    kept = [line for line in path.read_text().splitlines() if "precision" not in line]
    path.write_text("\n".join(kept))

    (model,) = list_models(tmp_path)

    assert (model.version, model.info.precision, model.exported) == ("1", "fp32", True)
