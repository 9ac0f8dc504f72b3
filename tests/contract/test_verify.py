"""`trireme models verify` tells a model that answers as it should from one that does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from core.errors import BadEnvironment, ModelMismatch, NotFound
from deploy.models.sentence_model import packaged_minilm
from deploy.models.tracing import load
from deploy.models.verify import TEXTS, verify_model
from tests.contract.conftest import Served
from tests.paths.test_cli import trireme

pytestmark = pytest.mark.triton


@pytest.fixture
def copied(real_triton: Served, tmp_path: Path) -> Path:
    """A copy of the repository that Triton serves."""
    for name in ("bi_encoder", "cross_encoder"):
        shutil.copytree(real_triton.model_directory / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["bi_encoder", "cross_encoder"])
async def test_a_served_model_is_the_same_as_in_this_process(
    real_triton: Served, name: str
) -> None:
    report = await verify_model(real_triton.address, real_triton.model_directory, name, "")

    assert report.good
    assert report.texts == len(TEXTS)
    assert f"{name}:1 is the same as its model.pt" in str(report)


async def test_the_shipped_encoder_is_what_the_library_makes_of_it(real_triton: Served) -> None:
    report = await verify_model(
        real_triton.address,
        real_triton.model_directory,
        "bi_encoder",
        "1",
        against=str(packaged_minilm()),
    )

    assert report.good
    assert report.cosine >= 0.99999


async def test_other_weights_are_told_apart(real_triton: Served, copied: Path) -> None:
    path = copied / "bi_encoder" / "1" / "model.pt"
    module = load(path.read_bytes())
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    module.save(str(path))

    report = await verify_model(real_triton.address, copied, "bi_encoder", "")

    assert not report.good
    assert "NOT the same" in str(report)


async def test_what_cannot_be_compared_is_refused_by_name(
    real_triton: Served, copied: Path
) -> None:
    (copied / "bi_encoder" / "1" / "model.pt").write_bytes(b"no archive")
    with pytest.raises(BadEnvironment, match=r"model\.pt: cannot be loaded"):
        await verify_model(real_triton.address, copied, "bi_encoder", "")

    (copied / "bi_encoder" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelMismatch, match="tokenizer"):
        await verify_model(real_triton.address, copied, "bi_encoder", "")

    with pytest.raises(NotFound):
        await verify_model(real_triton.address, copied, "nobody", "")


async def test_the_command_says_it_and_fails_where_models_differ(
    real_triton: Served, copied: Path, tmp_path: Path
) -> None:
    arguments = ("models", "verify", "bi_encoder", "--triton", real_triton.address)

    code, output, errors = await trireme(*arguments, journals=tmp_path)
    assert (code, errors) == (0, "")
    assert "bi_encoder:1 is the same as" in output

    shutil.copy(copied / "cross_encoder" / "1" / "model.pt", copied / "bi_encoder" / "1")
    code, _, errors = await trireme(*arguments, "--repository", str(copied), journals=tmp_path)
    assert code == 1
    assert "bi_encoder" in errors
