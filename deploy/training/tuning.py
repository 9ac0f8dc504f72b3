"""One fine-tuning run with the library's own trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets.utils import logging as dataset_logging
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import nn

from deploy.training.examples import Example
from deploy.training.losses import CROSS_ENCODER, Columns, find_loss

Model = SentenceTransformer | CrossEncoder


@dataclass(frozen=True)
class Settings:
    """`steps` 0 means by `epochs`; checkpoints come every `save_steps`."""

    loss: str
    epochs: float = 1.0
    steps: int = 0
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    save_steps: int = 200
    seed: int = 17


def open_model(kind: str, directory: Path) -> Model:
    """The library's model of `kind` in `directory`, on the CPU unless there is a GPU."""
    if kind == CROSS_ENCODER:
        model: Model = CrossEncoder(str(directory), num_labels=1, local_files_only=True)
        return model
    return SentenceTransformer(str(directory), local_files_only=True)


def tune(
    model: Model, kind: str, examples: Sequence[Example], settings: Settings, out: Path
) -> list[float]:
    """Train `model` in place and save it to `out/model`; returns the logged losses.

    Resumes from the last checkpoint under `out/checkpoints`. Raises InvalidInput if the loss needs
    what the examples lack.
    """
    loss = find_loss(kind, settings.loss)
    columns = loss.columns(examples)
    checkpoints = out / "checkpoints"
    trainer = _trainer(model, columns, loss.build(model), _arguments(settings, checkpoints))
    trainer.train(resume_from_checkpoint=any(checkpoints.glob("checkpoint-*")))
    model.save_pretrained(str(out / "model"))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _trainer(model: Model, columns: Columns, loss: nn.Module, arguments: dict[str, Any]) -> Any:
    dataset_logging.disable_progress_bar()
    data = Dataset.from_dict(columns)
    if isinstance(model, CrossEncoder):
        settings = CrossEncoderTrainingArguments(**arguments)
        return CrossEncoderTrainer(model=model, args=settings, train_dataset=data, loss=loss)
    assert isinstance(model, SentenceTransformer)
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**arguments),
        train_dataset=data,
        loss=loss,
    )


def _arguments(settings: Settings, checkpoints: Path) -> dict[str, Any]:
    return {
        "output_dir": str(checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.steps or -1,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "seed": settings.seed,
    }
